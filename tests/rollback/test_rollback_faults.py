"""Runs that were killed, cut or interrupted are undone all the same, and rollbacks that were."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from remediation.journal.journal import Journal
from remediation.journal.outcomes import Outcome, RowOutcome
from remediation.journal.past_journals import find_journal
from remediation.rollback.history import History
from remediation.selection.batching import FailingRow
from remediation.writing.table_statements import NewVector
from tests.drivers.repairs import docs, environment, repaired, settings
from tests.drivers.rollbacks import cut_down, rolled_back, run_of, server, stored
from tests.drivers.rollbacks import opened as opened_rollback
from tests.faults.link import Link, cut
from tests.faults.wire import Step
from tests.servers.provider_server import ProviderServer, vector_of
from tests.servers.small_disk import files_of_at_most

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["server"]

KEYS = environment("acme", "globex")


def test_a_run_that_was_killed_before_it_entered_its_outcomes_can_be_undone(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 6)}, "vector") as table:
        table.execute("UPDATE docs SET embedding = '[1,2]' WHERE id < 4")
        before = stored(table)
        chosen = settings(server)
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.folder is not None
        path = done.folder / "journal.jsonl"
        kept = cut_down(path, b'{"event":"replacing"')
        with path.open("ab") as file:
            file.write(b'{"event":"replac')  # as a crash leaves it, the last line cut off
        assert rolled_back(database, chosen, tmp_path, run_of(done)).counts() == {
            "selected": kept,
            "restored": kept,
        }
        assert stored(table) == before


def test_rows_that_could_not_be_read_back_after_their_write_can_be_undone(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    """A check of the user's own that fails upon the new vectors, when they are committed."""
    with docs(database, {"acme": (0, 3)}) as table:
        wrong = "embedding IS NULL OR 1 / (embedding <-> embedding) > 0"
        custom = [{"name": "apart", "failing_when": wrong, "remedy": "re-embed"}]
        chosen = settings(server, table={"custom": custom})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 3, "failed": 3}
        written = len(table.execute("SELECT id FROM docs WHERE embedding IS NOT NULL"))
        assert written > 0
        undone = rolled_back(database, chosen, tmp_path, run_of(done))
        assert undone.counts() == {"selected": written, "restored": written}
        assert table.wrong() == [1, 2, 3]


def test_rows_that_were_locked_between_their_commit_and_their_read_back_can_be_undone(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 3)}) as table, psycopg.connect(database) as other:
        chosen = settings(server)
        with Link(database) as link:

            def lock(_: object) -> None:
                other.execute("LOCK TABLE docs IN ACCESS EXCLUSIVE MODE")

            link.when(Step.COMMITTED, lock)
            done = repaired(
                link.url,
                chosen,
                tmp_path,
                keys=KEYS,
                lock_patience=1.0,
                on_outcome=lambda _: other.rollback(),
            )
            assert link.fired == [Step.COMMITTED]
        assert done.counts() == {"selected": 3, "skipped": 3}
        assert table.wrong() == []
        undone = rolled_back(database, chosen, tmp_path, run_of(done))
        assert undone.counts() == {"selected": 3, "restored": 3}
        assert table.wrong() == [2, 3, 4]


def test_a_commit_whose_answer_was_lost_counts_as_put_back(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 6)}) as table:
        chosen = settings(server)
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        with Link(database) as link:
            link.when(Step.COMMITTED, cut)
            undone = rolled_back(link.url, chosen, tmp_path, run_of(done))
            assert link.fired == [Step.COMMITTED]
        assert undone.counts() == {"selected": 6, "restored": 6}
        assert len(table.wrong()) == 6


def test_a_journal_that_fills_up_stops_the_rollback_before_it_overwrites(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 60)}) as table:
        chosen = settings(server)
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        with (
            files_of_at_most(8_000),
            opened_rollback(database, chosen, tmp_path, run_of(done)) as rollback,
        ):
            rollback.run(tmp_path, lambda _: None)
        (result,) = rollback.results
        assert result.stopped is not None
        assert "the journal cannot be written (File too large)" in result.stopped
        assert result.account.selected == result.account.settled == 60
        kept = {
            int(event["key"][0])
            for _, event in find_journal(rollback.run_id, tmp_path).events()
            if event["event"] == "replacing"
        }
        assert 0 < len(table.wrong()) < 60
        assert set(table.wrong()) <= kept
        rolled_back(database, chosen, tmp_path, run_of(done))
        assert len(table.wrong()) == 60


def test_an_interrupt_ends_a_rollback_in_order_and_the_next_one_goes_on(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 400)}) as table:
        chosen = settings(server, provider={"batch_size": 100})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        settled: list[Outcome] = []

        def interrupt(outcome: Outcome) -> None:
            settled.append(outcome)
            if len(settled) == 30:
                os.kill(os.getpid(), signal.SIGINT)
                # The main thread takes the signal in its own time.
                time.sleep(0.5)

        with (
            opened_rollback(database, chosen, tmp_path, run_of(done)) as rollback,
            pytest.raises(KeyboardInterrupt),
        ):
            rollback.run(tmp_path, interrupt)
        (result,) = rollback.results
        assert result.stopped == "the repair was interrupted"
        assert result.account.selected == result.account.settled == len(settled)
        assert len(table.wrong()) == result.account.count(Outcome.RESTORED) < 400
        rolled_back(database, chosen, tmp_path, run_of(done))
        assert len(table.wrong()) == 400


def test_two_tries_of_a_write_that_came_to_nothing_leave_nothing_to_put_back(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path / "20261122T203438Z-f36a3d")
    row = FailingRow(
        key=("1",),
        tenant="acme",
        text="",
        text_hash="t",
        vector_hash=None,
        checks=("completeness",),
    )
    new = NewVector(row=row, vector=vector_of("x"), stored_as="0" * 32)
    history = History(journal=find_journal("20261122T203438Z-f36a3d", tmp_path))
    journal.replacing("public.docs", [new])
    journal.replacing("public.docs", [new])
    history.read_on()
    assert len(history.tables["public.docs"]) == 1
    journal.outcomes("public.docs", [RowOutcome(row=row, outcome=Outcome.SKIPPED)])
    journal.close()
    history.read_on()
    assert len(history.tables["public.docs"]) == 0
