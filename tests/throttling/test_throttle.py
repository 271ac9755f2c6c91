"""Repairs that wait: for a file, a standby, the log, a lost connection, a key; and say so."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.drivers.repairs import docs, environment, meanwhile, repaired, settings
from tests.servers.provider_server import ProviderServer, ReceivedRequest, Reply, when_asked
from tests.servers.standby import Standby, followed_database, primary_url, standby
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.drivers.runs import Site

pytest_plugins = ("pytester",)
__all__ = ["followed_database", "primary_url", "standby"]

KEYS = environment("acme", "globex")
END_HEALTH = """
DO $$ BEGIN
    LOOP
        PERFORM pg_stat_clear_snapshot();
        PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND query ~ 'pg_stat_replication'
          AND pid <> pg_backend_pid();
        EXIT WHEN FOUND;
    END LOOP;
END $$
"""
"""Ends the session that looks at the health of the server. A look takes a millisecond or two: only
the server itself asks often enough to meet the next one."""


def still(count: Callable[[], int], seconds: float = 1.0) -> int:
    """What a count comes to once it has not changed for that long. Raises TimeoutError."""
    seen, since = count(), time.monotonic()
    end = since + 30
    while time.monotonic() - since < seconds:
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)
        if count() != seen:
            seen, since = count(), time.monotonic()
    return seen


def is_paused_for(told: list[str], words: str) -> bool:
    return len(told) == 2 and words in told[0] and told[1].startswith("the repair goes on after ")


def test_a_pause_file_stops_requests_and_writes_until_it_is_removed(
    database: str, tmp_path: Path
) -> None:
    file = tmp_path / "pause"
    with docs(database, {"acme": (1, 200)}) as table, ProviderServer() as server:
        when_asked(server, 5, file.touch)
        told: list[str] = []
        counts: list[tuple[int, int]] = []

        def remove(_: threading.Event) -> None:
            wait_until(lambda: bool(told))
            requests = still(lambda: len(server.requests))
            left = len(table.wrong())
            counts.append((requests, left))
            assert still(lambda: len(table.wrong())) == left
            file.unlink()

        with meanwhile(remove):
            done = repaired(
                database,
                settings(server, repair={"pause_file": "pause"}),
                tmp_path,
                keys=KEYS,
                on_pause=told.append,
                started_from=tmp_path,
            )
        assert done.counts() == {"selected": 200, "fixed": 200}
        assert table.wrong() == []
        ((requests, left),) = counts
        assert requests < len(server.requests) == 1 + 40
        assert left > 0
        assert len(server.texts) == 1 + 200
        assert is_paused_for(told, f"the file {file} exists; remove it to go on")


def test_the_probe_waits_too(database: str, tmp_path: Path) -> None:
    file = tmp_path / "pause"
    file.touch()
    with docs(database, {"acme": (1, 3)}) as table, ProviderServer() as server:
        told: list[str] = []

        def remove(_: threading.Event) -> None:
            wait_until(lambda: bool(told))
            assert still(lambda: len(server.requests), seconds=0.5) == 0
            file.unlink()

        with meanwhile(remove):
            done = repaired(
                database,
                settings(server, repair={"pause_file": str(file)}),
                tmp_path,
                keys=KEYS,
                on_pause=told.append,
            )
        assert done.counts() == {"selected": 3, "fixed": 3}
        assert table.wrong() == []
        assert is_paused_for(told, "remove it to go on")


def test_a_standby_that_stops_replaying_pauses_the_repair_until_it_has_caught_up(
    standby: Standby, followed_database: str, tmp_path: Path
) -> None:
    with docs(followed_database, {"acme": (1, 1500)}) as table, ProviderServer() as server:
        standby.catch_up()
        when_asked(server, 5, standby.pause)
        told: list[str] = []
        asked: list[int] = []

        def resume(_: threading.Event) -> None:
            wait_until(lambda: bool(told))
            asked.append(still(lambda: len(server.requests)))
            standby.resume()

        with meanwhile(resume):
            done = repaired(
                followed_database,
                settings(server, repair={"max_replication_lag": "200ms"}),
                tmp_path,
                keys=KEYS,
                on_pause=told.append,
            )
        assert done.counts() == {"selected": 1500, "fixed": 1500}
        assert table.wrong() == []
        assert asked[0] < len(server.requests) == 1 + 300
        assert "standby 'walreceiver' is " in told[0]
        assert told[1].startswith("the repair goes on after ")


def test_the_log_that_others_write_pauses_the_repair_until_they_stop(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 20)}) as table, ProviderServer() as server:
        told: list[str] = []

        def write(stop: threading.Event) -> None:
            with psycopg.connect(database, autocommit=True) as connection:
                end = time.monotonic() + 30
                while not told and time.monotonic() < end and not stop.wait(0.05):
                    connection.execute(
                        "SELECT pg_logical_emit_message(false, '', repeat('x', 1000000))"
                    )
                assert not stop.is_set()
                assert len(server.requests) < 1 + 4

        with meanwhile(write):
            done = repaired(
                database,
                settings(server, repair={"max_wal_rate": "2MB/s"}),
                tmp_path,
                keys=KEYS,
                on_pause=told.append,
            )
        assert done.counts() == {"selected": 20, "fixed": 20}
        assert table.wrong() == []
        assert "MB of write-ahead log per second, more than 2 MB" in told[0]
        assert told[1].startswith("the repair goes on after ")


def test_a_lost_health_connection_pauses_the_repair_and_does_not_end_it(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 200)}) as table, ProviderServer() as server:
        told: list[str] = []
        lost = threading.Event()

        def lose(_: threading.Event) -> None:
            server.wait_for_requests(5)
            with psycopg.connect(database, autocommit=True) as other:
                other.execute("SET statement_timeout = '30s'")
                other.execute(END_HEALTH)
            lost.set()

        def slow(_: ReceivedRequest) -> Reply:
            if len(server.requests) > 5:
                lost.wait(30)
            return Reply(pause=0.1)

        server.always(slow)
        with meanwhile(lose):
            done = repaired(
                database,
                settings(server, repair={"max_replication_lag": "2s"}),
                tmp_path,
                keys=KEYS,
                on_pause=told.append,
            )
        assert done.counts() == {"selected": 200, "fixed": 200}
        assert table.wrong() == []
        assert is_paused_for(told, "the health of the server cannot be read: ")


@pytest.mark.parametrize("probe", [1, 0], ids=["of the probe", "of the repair"])
def test_a_wait_for_every_key_s_limit_is_told_where_it_lasts(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probe: int
) -> None:
    monkeypatch.setattr("remediation.throttling.pauses.EXPECTED_SECONDS", 0.3)
    with docs(database, {"acme": (1, 20), "globex": (1, 3)}) as table, ProviderServer() as server:
        busy = Reply(status=429, headers={"retry-after": "3"})
        server.next(busy, busy)
        told: list[str] = []
        chosen = settings(server, repair={"probe": probe})
        done = repaired(database, chosen, tmp_path, keys=KEYS, on_pause=told.append)
        assert done.counts() == {"selected": 23, "fixed": 23}
        assert table.wrong() == []
        assert is_paused_for(told, "every key that is needed has to wait, the first for ")


def test_a_key_that_has_to_wait_pauses_nothing_while_others_go_on(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remediation.throttling.pauses.EXPECTED_SECONDS", 0.3)
    with docs(database, {"acme": (0, 5), "globex": (0, 80)}), ProviderServer() as server:
        refused: list[str] = []

        def rule(request: ReceivedRequest) -> Reply:
            if "acme" in request.texts[0] and not refused:
                refused.append(request.texts[0])
                return Reply(status=429, headers={"retry-after": "1"})
            return Reply(pause=0.5)

        server.always(rule)
        told: list[str] = []
        done = repaired(database, settings(server), tmp_path, keys=KEYS, on_pause=told.append)
        assert done.counts() == {"selected": 85, "fixed": 85}
        assert refused
        assert told == []


def test_a_whole_run_tells_its_pause_on_the_terminal_and_in_the_report(
    provided_site: Site,
) -> None:
    from tests.drivers.runs import SETTINGS, TENANTS, fill, missing

    fill(provided_site.database, dict.fromkeys(TENANTS, 12))
    provided_site.settings(SETTINGS + '\n[repair]\npause_file = "pause-integrity"\n')
    file = provided_site.folder / "pause-integrity"
    file.touch()

    def remove(stop: threading.Event) -> None:
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
        with psycopg.connect(provided_site.database, autocommit=True) as connection:
            # Its lock is taken before it begins to wait.
            try:
                wait_until(lambda: connection.execute(held).fetchone() == (1,) or stop.is_set())
                stop.wait(1.5)
            finally:
                file.unlink()

    with meanwhile(remove):
        run = provided_site.run("--remediate")
    assert run.status == 0, run.output
    paused = f"the repair is paused: the file {file} exists; remove it to go on"
    assert paused in run.output
    assert "the repair goes on after " in run.output
    report = provided_site.report().read_text(encoding="utf-8")
    assert "the repair is paused: the file " in report
    assert "the repair goes on after " in report
    assert sum(missing(provided_site.database).values()) == 0
