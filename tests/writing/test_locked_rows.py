"""Rows and tables that other sessions hold: nobody waits in line for them."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psycopg
import pytest

from remediation.journal.outcomes import Outcome
from tests.drivers.repairs import docs, environment, meanwhile, opened, repaired, settings
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    import threading
    from pathlib import Path

KEYS = environment("acme", "globex")


def test_a_locked_row_is_left_and_its_neighbours_are_written(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (1, 20)}) as table, ProviderServer() as server:
        with psycopg.connect(database) as other:
            other.execute("SELECT FROM docs WHERE id = 5 FOR UPDATE")
            done = repaired(database, settings(server), tmp_path, keys=KEYS, lock_patience=1.0)
            assert done.counts() == {"selected": 20, "fixed": 19, "skipped": 1}
            assert done.reasons(Outcome.SKIPPED) == {"locked by another session for 1 s"}
            assert done.docs.stopped is None
        assert table.wrong() == [5]


def test_a_locked_row_waits_for_its_turn_and_is_written_once_it_is_free(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 50)}) as table, ProviderServer() as server:
        with psycopg.connect(database) as other:
            other.execute("SELECT FROM docs WHERE id = 5 FOR UPDATE")
            settled: list[Outcome] = []

            def release(outcome: Outcome) -> None:
                settled.append(outcome)
                if len(settled) == 49:  # all the others
                    assert table.wrong() == [5]
                    other.rollback()

            chosen = settings(server, provider={"batch_size": 50})
            done = repaired(database, chosen, tmp_path, keys=KEYS, on_outcome=release)
        assert done.counts() == {"selected": 50, "fixed": 50}
        assert table.wrong() == []
        assert len(server.texts) == 1 + 50
        assert done.folder is not None
        journal = (done.folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
        assert sum('"replacing"' in line for line in journal) == 50


@pytest.mark.parametrize("mode", ["SHARE", "ACCESS EXCLUSIVE"])
def test_a_table_lock_pauses_the_asking_until_it_is_released(
    database: str, tmp_path: Path, mode: str
) -> None:
    with docs(database, {"acme": (1, 200)}) as table, ProviderServer() as server:
        asked: list[int] = []

        def lock(stop: threading.Event) -> None:
            with psycopg.connect(database) as other:
                server.wait_for_requests(4)
                other.execute(f"LOCK TABLE docs IN {mode} MODE")
                stop.wait(1.5)
                asked.append(len(server.requests))

        with meanwhile(lock):
            done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 200, "fixed": 200}
        assert table.wrong() == []
        # The probe, and each text once.
        assert len(server.texts) == 1 + 200
        assert asked[0] < len(server.requests) == 1 + 40


def test_a_table_that_stays_locked_costs_no_more_than_what_was_in_flight(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 200)}) as table, ProviderServer() as server:
        with psycopg.connect(database) as other:
            other.execute("LOCK TABLE docs IN SHARE MODE")
            done = repaired(database, settings(server), tmp_path, keys=KEYS, lock_patience=1.0)
        assert done.counts() == {"selected": 200, "skipped": 200}
        assert done.docs.stopped == "the table stayed locked by another session for 1 s"
        # The probe; then as many as are asked for at a time, and as many as may wait for writers.
        assert 1 < len(server.requests) <= 1 + 4 + 4
        assert len(table.wrong()) == 200


def test_many_locked_rows_stop_the_asking_and_then_the_repair(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 400)}) as table, ProviderServer() as server:
        with psycopg.connect(database) as other:
            other.execute("SELECT FROM docs WHERE id > 30 FOR UPDATE")
            done = repaired(database, settings(server), tmp_path, keys=KEYS, lock_patience=1.0)
        assert done.docs.stopped is not None
        assert "more than 50 rows were locked" in done.docs.stopped
        assert done.counts() == {"selected": 400, "fixed": 29, "skipped": 371}
        # 29 free rows, 50 that may wait, and what was in flight by then: asked for and written.
        assert len(server.texts) <= 1 + 29 + 50 + 5 * (4 + 2 * 2 + 1)
        assert len(table.wrong()) == 371


def test_an_interrupt_ends_the_wait_for_locked_rows(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (1, 20)}) as table, ProviderServer() as server:
        settled = 0

        def interrupt(_: Outcome) -> None:
            nonlocal settled
            settled += 1
            if settled == 19:
                os.kill(os.getpid(), signal.SIGINT)

        with psycopg.connect(database) as other:
            other.execute("SELECT FROM docs WHERE id = 5 FOR UPDATE")
            with opened(database, settings(server), keys=KEYS, lock_patience=3600.0) as repair:
                plan = repair.plan()
                with pytest.raises(KeyboardInterrupt):
                    repair.run(plan, tmp_path, interrupt)
                (result,) = repair.results
        assert result.stopped == "the repair was interrupted"
        assert result.account.settled == result.account.selected == 20
        assert result.account.count(Outcome.FIXED) == 19
        assert table.wrong() == [5]
