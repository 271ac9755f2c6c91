"""A hot standby as the place of the checks, whole runs; see also `tests/throttling`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg
import pytest

from demo.postgres import database_url
from tests.faults.provider import Provider
from tests.faults.stages.ground import Ground
from tests.faults.stages.rows import healthy
from tests.servers.standby import primary_url as primary_url
from tests.servers.standby import standby as standby

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.drivers.starter import Starter
    from tests.faults.stages.stage import Stage
    from tests.servers.standby import Standby

pytestmark = pytest.mark.thorough
SEED = 20260303


@pytest.fixture
def stage(primary_url: str, starter: Starter) -> Iterator[Stage]:
    with Ground(primary_url, starter) as ground, ground.stage(SEED) as stage:
        yield stage


@pytest.fixture
def replica(stage: Stage, standby: Standby) -> str:
    """The stage's database on the standby, as it is now."""
    standby.catch_up()
    return database_url(standby.url, stage.name)


def test_checks_read_it_and_a_repair_writes_to_its_primary(stage: Stage, replica: str) -> None:
    before = stage.rows()
    checked = stage.run(url=replica, remediate=False)
    assert checked.status == 1, checked.output
    assert stage.rows() == before
    with Provider(seed=SEED) as provider:
        repaired = stage.run(url=replica, write_url=stage.url, provider=provider.base_url)
    assert repaired.status == 0, repaired.output
    assert all(healthy(row) for row in stage.rows().values())


def test_a_repair_that_has_only_it_is_refused_before_a_text_is_sent(
    stage: Stage, replica: str
) -> None:
    before = stage.rows()
    with Provider(seed=SEED) as provider:
        run = stage.run(url=replica, provider=provider.base_url)
        assert provider.received == []
    assert run.status == 11, run.output
    assert "no repair: " in run.output
    assert "REMEDIATION_DATABASE_URL" in run.output
    assert stage.rows() == before


def test_checks_that_it_cancels_for_its_primary_s_sake_are_red_or_repeated_never_green(
    stage: Stage, standby: Standby, replica: str
) -> None:
    with psycopg.connect(standby.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET max_standby_streaming_delay = 0")
        connection.execute("SELECT pg_reload_conf()")
    stop = threading.Event()

    def churn() -> None:
        with psycopg.connect(stage.url, autocommit=True) as connection:
            while not stop.wait(0.005):
                connection.execute("UPDATE docs SET note = note")
                connection.execute("VACUUM docs")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        run = stage.run(url=replica, remediate=False)
    finally:
        stop.set()
        thread.join()
    assert run.status in (1, 10), run.output
    assert "INTERNALERROR" not in run.output
    assert "Traceback" not in run.output
