"""The repair of one table that is cut off, interrupted, killed or undone by triggers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from remediation.journal.outcomes import Outcome
from remediation.journal.quarantine import recall
from tests.drivers.repairs import docs, environment, meanwhile, opened, repaired, settings
from tests.servers.provider_server import ProviderServer, Reply
from tests.servers.small_disk import files_of_at_most

if TYPE_CHECKING:
    from tests.drivers.repairs import Docs
    from tests.servers.provider_server import ReceivedRequest

KEYS = environment("acme", "globex")
REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_rule_that_never_heals_bills_one_batch_and_the_others_go_on(
    database: str, tmp_path: Path
) -> None:
    custom = [{"name": "tagged", "failing_when": "note = 'bad'", "remedy": "re-embed"}]
    with docs(database, {"acme": (40, 20)}) as table, ProviderServer() as server:
        table.execute("UPDATE docs SET note = 'bad' WHERE id <= 30")
        chosen = settings(server, table={"custom": custom})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.docs.stopped is not None
        assert "the repair of tagged does not heal public.docs" in done.docs.stopped
        assert done.counts() == {"selected": 50, "fixed": 20, "failed": 5, "skipped": 25}
        assert table.wrong() == []
        assert len(server.texts) == 3 + 25


def _undo(table: Docs, moment: str, body: str) -> None:
    table.execute(
        f"CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$"
    )
    table.execute(
        f"CREATE TRIGGER undo {moment} UPDATE OF embedding ON docs FOR EACH ROW"
        " WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION undo()"
    )


@pytest.mark.parametrize(
    ("moment", "body", "reason"),
    [
        ("BEFORE", "RETURN NULL;", "a trigger, rule or policy is in the way"),
        ("BEFORE", "NEW.embedding := NULL; RETURN NEW;", "still fails completeness"),
        (
            "AFTER",
            "UPDATE docs SET embedding = NULL WHERE id = NEW.id; RETURN NULL;",
            "changed by someone else",
        ),
        ("BEFORE", "RAISE 'not allowed'; RETURN NEW;", "raised SQLSTATE P0001"),
    ],
    ids=["refuses in silence", "nulls it at once", "nulls it afterwards", "refuses aloud"],
)
def test_a_trigger_that_undoes_every_write_costs_one_batch(
    database: str, tmp_path: Path, moment: str, body: str, reason: str
) -> None:
    with docs(database, {"acme": (0, 60)}) as table, ProviderServer() as server:
        _undo(table, moment, body)
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.docs.stopped is not None
        assert "does not heal public.docs" in done.docs.stopped
        assert reason in done.docs.stopped
        counts = done.counts()
        assert counts["selected"] == counts.get("failed", 0) + counts["skipped"] == 60
        assert len(server.requests) == 1
        assert len(table.wrong()) == 60


def test_nothing_waits_for_the_first_batch_where_nothing_can_be_in_the_way_of_its_write(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (3, 20)}) as table, ProviderServer() as server:
        # One of the probe, four of the batches.
        def wait_for_the_others(request: ReceivedRequest) -> None:
            if len(request.texts) == 5:
                server.wait_for_requests(1 + 4, seconds=20)

        server.always(wait_for_the_others)
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 20, "fixed": 20}
        assert table.wrong() == []


def test_a_trigger_made_since_the_first_look_costs_no_more_than_was_in_flight(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (3, 100)}) as table, ProviderServer() as server:
        with opened(database, settings(server), keys=KEYS) as repair:
            plan = repair.plan()
            _undo(table, "BEFORE", "NEW.embedding := NULL; RETURN NEW;")
            repair.run(plan, tmp_path, lambda _: None)
            (result,) = repair.results
        assert result.stopped is not None
        assert "the repair of completeness does not heal public.docs" in result.stopped
        # That of the probe, and as many as are asked for or written at a time.
        assert len(server.requests) <= 1 + 2 * 4


def test_a_trigger_that_refuses_one_row_leaves_its_neighbours_repaired(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 20)}) as table, ProviderServer() as server:
        _undo(table, "BEFORE", "IF NEW.id = 9 THEN RAISE 'not nine'; END IF; RETURN NEW;")
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 20, "fixed": 19, "failed": 1}
        assert done.reasons(Outcome.FAILED) == {
            "the database refused the write: a trigger or function raised SQLSTATE P0001"
            " (PL/pgSQL function undo() line 1 at RAISE)"
        }
        assert table.wrong() == [9]
        assert done.docs.stopped is None


def test_a_lost_lock_stops_the_repair_without_a_further_write(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 60)}) as table, ProviderServer() as server:
        at_loss: list[list[tuple[object, ...]]] = []

        def lose(_: object) -> None:
            if len(server.requests) == 5:
                table.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks"
                    " JOIN pg_database AS d ON d.oid = database"
                    " WHERE locktype = 'advisory' AND datname = current_database()"
                )
                at_loss.append(table.versions())

        server.always(lose)
        chosen = settings(server, provider={"concurrency": 1}, repair={"write_concurrency": 1})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.docs.stopped is not None
        assert "the connection that held the lock" in done.docs.stopped
        done.counts()
        # One write may have been under way when the lock went.
        changed = set(table.versions()) - set(at_loss[0])
        assert len(changed) <= 5
        # What may be in flight: one request, and two batches that wait for the writer.
        assert len(server.requests) <= 5 + 3


def test_a_lost_write_connection_is_replaced_and_every_row_repaired(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 60)}) as table, ProviderServer() as server:

        def terminate(stop: threading.Event) -> None:
            with psycopg.connect(database, autocommit=True) as connection:
                while not stop.wait(0.1):
                    connection.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND state = 'active'"
                        " AND query ~ '^\\s*UPDATE'"
                        " AND pid <> pg_backend_pid()"
                        " AND application_name NOT LIKE 'embedding-integrity%'"
                    )

        table.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(0.004); RETURN NEW; END $$"
        )
        table.execute(
            "CREATE TRIGGER slow BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION slow()"
        )
        with meanwhile(terminate):
            done = repaired(database, settings(server), tmp_path, keys=KEYS)
        counts = done.counts()
        assert counts["selected"] == 60
        assert len(table.wrong()) == counts.get("failed", 0)
        again = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert table.wrong() == []
        assert again.after is not None
        assert again.after.findings == ()


def test_an_interrupt_settles_the_account_and_is_raised_again(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 100)}) as table, ProviderServer() as server:

        def interrupt(_: object) -> Reply:
            if len(server.requests) == 6:
                os.kill(os.getpid(), signal.SIGINT)
            return Reply(pause=0.2)

        server.always(interrupt)
        with opened(database, settings(server), keys=KEYS) as repair:
            plan = repair.plan()
            with pytest.raises(KeyboardInterrupt):
                repair.run(plan, tmp_path, lambda _: None)
            (result,) = repair.results
        account = result.account
        assert result.stopped == "the repair was interrupted"
        assert account.settled == account.selected
        fixed = account.count(Outcome.FIXED)
        assert 0 < fixed < 100
        assert len(table.wrong()) == 100 - fixed
        # What had been paid for was written.
        assert fixed == len([text for text in server.texts if text != "document 1 of acme"])


def test_an_interrupt_while_a_thread_is_begun_leaves_none_that_keeps_the_process(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, begun = threading.Thread.start, []

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if thread.name.startswith("write"):
            begun.append(thread)
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with docs(database, {"acme": (1, 10)}), ProviderServer() as server:
        with pytest.raises(KeyboardInterrupt):
            repaired(database, settings(server), tmp_path, keys=KEYS)
        (thread,) = begun
        thread.join(10)
        assert not thread.is_alive()


def test_an_interrupt_is_noticed_while_no_row_is_worth_sending(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 40)}), ProviderServer() as server:
        chosen = settings(server, provider={"batch_size": 1}, repair={"probe": 0})
        server.poison("document")
        repaired(database, chosen, tmp_path, keys=KEYS)
        settled: list[Outcome] = []

        def interrupt(outcome: Outcome) -> None:
            settled.append(outcome)
            if len(settled) == 3:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)

        remembered = recall(tmp_path)
        with opened(database, chosen, keys=KEYS, quarantine=remembered) as repair:
            plan = repair.plan()
            assert plan.rows == 0
            with pytest.raises(KeyboardInterrupt):
                repair.run(plan, tmp_path, interrupt)
            (result,) = repair.results
        assert result.stopped == "the repair was interrupted"
        assert result.account.settled == result.account.selected < 40


def test_what_is_not_foreseen_shows_no_text_in_a_traceback_with_locals(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 7)}), ProviderServer() as server:

        def break_down(_: Outcome) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as caught:
            repaired(database, settings(server), tmp_path, keys=KEYS, on_outcome=break_down)
        shown = str(caught.getrepr(showlocals=True, funcargs=True, style="long"))
        assert "FailingRow(key=('" in shown
        assert "document" not in shown


SCRIPT = """
import sys
from contextlib import ExitStack
from pathlib import Path
from tests.drivers.repairs import environment, repaired, settings
repaired(sys.argv[1], settings(sys.argv[2]), Path(sys.argv[3]), keys=environment("acme", "globex"))
"""


def test_a_killed_repair_is_taken_up_and_embeds_only_what_was_in_flight_twice(
    database: str, tmp_path: Path
) -> None:
    with (
        docs(database, {"acme": (1, 60), "globex": (1, 40)}) as table,
        ProviderServer() as server,
    ):
        server.always(Reply(pause=0.05))
        with subprocess.Popen(
            [sys.executable, "-c", SCRIPT, database, server.base_url, str(tmp_path)],
            cwd=REPOSITORY,
        ) as running:
            server.wait_for_requests(8)
            running.kill()
        assert len(table.wrong()) > 0
        server.always(None)
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.docs.stopped is None
        assert table.wrong() == []
        # At first a healthy row of each tenant, then up to three: what was repaired is healthy too.
        probes = 2 + sum(len(probe.cosines) for probe in done.docs.probes)
        # In flight are batches that are asked for, and those that wait for their write.
        assert len(server.texts) - probes <= 100 + 4 * 5 + 2 * 2 * 5


def test_a_journal_that_fills_up_stops_the_repair_before_any_write(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 20)}) as table, ProviderServer() as server:
        versions = table.versions()
        with opened(database, settings(server), keys=KEYS) as repair:
            plan = repair.plan()
            with files_of_at_most(1_000):
                repair.run(plan, tmp_path, lambda _: None)
            (result,) = repair.results
        assert result.stopped is not None
        assert "the journal cannot be written (File too large)" in result.stopped
        assert result.account.settled == result.account.selected
        assert result.account.count(Outcome.FIXED) == 0
        assert table.versions() == versions


def test_a_disk_that_fills_up_at_the_last_outcomes_is_told(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (1, 1)}) as table, ProviderServer() as server, ExitStack() as full:
        edits = 0

        def edit_again(outcome: Outcome) -> None:
            nonlocal edits
            edits += 1
            table.execute("UPDATE docs SET body = %s WHERE id = 2", (f"edit {edits}",))
            if outcome is Outcome.SUPERSEDED:
                full.enter_context(files_of_at_most(1))

        with opened(database, settings(server), keys=KEYS) as repair:
            repair.run(repair.plan(), tmp_path, edit_again)
            full.close()
            (result,) = repair.results
        assert result.account.count(Outcome.SUPERSEDED) == 1
        assert result.stopped is not None
        assert "the journal cannot be written (File too large)" in result.stopped
