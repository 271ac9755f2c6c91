"""The repair of one table while it is edited, capped, interrupted, killed or undone by triggers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from remediation.outcomes import Outcome
from remediation.quarantine import recall
from tests.provider_server import ProviderServer, Reply
from tests.repairs import docs, environment, meanwhile, opened, repaired, settings
from tests.small_disk import files_of_at_most

if TYPE_CHECKING:
    import threading

    from tests.repairs import Docs

KEYS = environment("acme", "globex")
REPOSITORY = Path(__file__).resolve().parents[1]


def test_rows_edited_while_the_repair_runs_never_keep_the_vector_of_their_old_text(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (2, 200), "globex": (2, 100)}) as table:
        with ProviderServer() as server:
            server.always(Reply(pause=0.1))
            asked_at_the_end: list[int] = []

            def edit(_: threading.Event) -> None:
                with psycopg.connect(database, autocommit=True) as connection:
                    # By then some of the rows are written, some are asked for, most are only read.
                    server.wait_for_requests(15)
                    for number in range(3, 203):
                        connection.execute(
                            "UPDATE docs SET body = body || ' edited' WHERE id = %s", (number,)
                        )
                asked_at_the_end.append(len(server.requests))

            with meanwhile(edit):
                done = repaired(database, settings(server), tmp_path, keys=KEYS)
            assert asked_at_the_end[0] < len(server.requests)
        assert done.counts() == {"selected": 300, "fixed": 300}
        assert table.wrong() == []
        assert sum(text.endswith("edited") for text in server.texts) == 200


def test_an_edit_after_the_write_is_repaired_in_the_same_run(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (1, 30)}) as table, ProviderServer() as server:
        settled: list[Outcome] = []

        def edit_the_first(outcome: Outcome) -> None:
            settled.append(outcome)
            if len(settled) == 10:
                table.execute("UPDATE docs SET body = 'another text' WHERE id = 2")

        done = repaired(database, settings(server), tmp_path, keys=KEYS, on_outcome=edit_the_first)
        assert done.counts() == {"selected": 30, "fixed": 30}
        assert table.wrong() == []
        assert server.texts.count("another text") == 1


def test_a_row_that_is_edited_after_every_write_is_reported_as_left(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 1)}) as table, ProviderServer() as server:
        edits = 0

        def edit_again(_: Outcome) -> None:
            nonlocal edits
            edits += 1
            table.execute("UPDATE docs SET body = %s WHERE id = 2", (f"edit {edits}",))

        done = repaired(database, settings(server), tmp_path, keys=KEYS, on_outcome=edit_again)
        assert done.counts() == {"selected": 1, "superseded": 1}
        assert done.reasons(Outcome.SUPERSEDED) == {"its text was edited meanwhile, and left so"}
        assert len(server.requests) == 1 + 4  # the probe, and the row in each of four rounds
        assert table.wrong() == [2]


def test_rows_changed_between_read_and_write_are_left_as_they_are(
    database: str, tmp_path: Path
) -> None:
    theirs = "[1,0,0,0,0,0,0,0]"
    changes = {
        2: "DELETE FROM docs WHERE id = 2",
        3: "UPDATE docs SET hidden = true WHERE id = 3",
        4: f"UPDATE docs SET embedding = '{theirs}' WHERE id = 4",
        5: f"UPDATE docs SET body = 'new', embedding = '{theirs}' WHERE id = 5",
        6: "UPDATE docs SET tenant = 'globex' WHERE id = 6",
        7: "UPDATE docs SET body = 'edited' WHERE id = 7",
        8: "UPDATE docs SET note = 'untouched by us' WHERE id = 8",
    }
    with docs(database, {"acme": (1, 7), "globex": (1, 0)}) as table, ProviderServer() as server:

        def change(_: object) -> None:
            if len(server.requests) == 3:  # two probes, then the batch
                for statement in changes.values():
                    table.execute(statement)

        chosen = settings(server, provider={"batch_size": 10}, repair={"probe": 1})
        # One tenant alone is selected and probed twice where both have healthy rows.
        server.always(change)
        table.execute("INSERT INTO docs (id, tenant, body) VALUES (100, 'globex', 'one of globex')")
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        rows = {
            row[0]: row for row in table.rows("id, hidden, tenant, body, note, embedding::text")
        }
        assert 2 not in rows
        assert rows[3][5] is None
        assert rows[4][5] == theirs
        assert rows[5][5] == theirs
        assert rows[8][4] == "untouched by us"
        assert table.wrong() == [4, 5]
        # The moved and the edited row were embedded anew, the first with its new tenant's key.
        assert done.counts() == {"selected": 8, "fixed": 4, "superseded": 4}
        assert [r.key for r in server.requests if "document 6 of acme" in r.texts] == [
            KEYS["KEY_ACME"],
            KEYS["KEY_GLOBEX"],
        ]


def test_a_row_that_moves_out_of_the_selected_tenants_is_not_followed(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (0, 2), "globex": (0, 2)}) as table, ProviderServer() as server:

        def move(_: object) -> None:
            table.execute("UPDATE docs SET tenant = 'globex' WHERE id = 1")

        server.always(move)
        done = repaired(database, settings(server), tmp_path, keys=KEYS, tenants=("acme",))
        assert done.counts() == {"selected": 2, "fixed": 1, "superseded": 1}
        assert {request.key for request in server.requests} == {KEYS["KEY_ACME"]}


@pytest.mark.parametrize(("cap", "fixed"), [(1, 1), (7, 7), (20, 20), (1000, 40)])
def test_the_cap_of_rows_is_used_to_the_last_row_and_the_rest_is_skipped(
    database: str, tmp_path: Path, cap: int, fixed: int
) -> None:
    with docs(database, {"acme": (0, 25), "globex": (0, 15)}) as table, ProviderServer() as server:
        done = repaired(database, settings(server, repair={"max_rows": cap}), tmp_path, keys=KEYS)
        expected = {"selected": 40, "fixed": fixed, "skipped": 40 - fixed}
        assert done.counts() == {name: count for name, count in expected.items() if count}
        assert len(table.wrong()) == 40 - fixed
        assert len(server.texts) == fixed
        stopped = f"the cap of {cap:,} rows is reached (--max-rows)" if fixed < 40 else None
        assert done.docs.stopped == stopped


def test_the_cap_of_dollars_is_never_passed(database: str, tmp_path: Path) -> None:
    # A text has 4 words, and the server bills a token a word: 20 tokens, 20 dollars, a request.
    prices = {"price_per_million_tokens": 1_000_000.0}
    with docs(database, {"acme": (0, 40)}) as table, ProviderServer() as server:
        chosen = settings(server, provider=prices, repair={"max_cost": 70.0})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.docs.stopped == "the cap of $70.00 is reached (--max-cost)"
        counts = done.counts()
        assert counts["fixed"] + counts["skipped"] == counts["selected"] == 40
        assert done.docs.spending.tokens == 4 * len(server.texts) <= 70
        assert 5 <= counts["fixed"] == 40 - len(table.wrong())


def test_answers_that_are_of_no_use_count_against_the_cap_of_dollars(
    database: str, tmp_path: Path
) -> None:
    # Five texts are counted at 30 tokens; the first request is tried three times.
    prices = {"price_per_million_tokens": 1_000_000.0}
    with docs(database, {"acme": (0, 20)}), ProviderServer() as server:
        server.always(Reply(body=b"<html>welcome</html>"))
        chosen = settings(server, provider=prices, repair={"max_cost": 100.0})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.docs.stopped == "the cap of $100.00 is reached (--max-cost)"
        assert done.counts() == {"selected": 20, "failed": 5, "skipped": 15}
        assert len(server.requests) == 3


def test_what_is_in_flight_may_turn_out_to_cost_less_than_it_was_counted(
    database: str, tmp_path: Path
) -> None:
    # Counted at 7 tokens a text and billed at 4: all 40 rows fit under the cap only as billed.
    prices = {"price_per_million_tokens": 1_000_000.0}
    with docs(database, {"acme": (0, 40)}) as table, ProviderServer() as server:
        server.always(Reply(pause=0.05))
        chosen = settings(server, provider=prices, repair={"max_cost": 176.0})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 40, "fixed": 40}
        assert table.wrong() == []


def test_a_cap_of_no_dollars_allows_no_probe_either(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (3, 4)}), ProviderServer() as server:
        chosen = settings(server, repair={"max_cost": 0.0})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.docs.stopped == "the cap of $0.00 is reached (--max-cost)"
        assert done.counts() == {"selected": 4, "skipped": 4}
        assert server.requests == []


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
        assert len(server.requests) <= 6


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
            return Reply(pause=0.05)

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
        assert "FailingRow(key=('2',)" in shown
        assert "document" not in shown


def test_a_repair_that_breaks_off_reserves_nothing_of_the_budget_any_more(
    database: str, tmp_path: Path
) -> None:
    """Two batches are put aside to be asked for again when the outcome of a third raises."""
    with docs(database, {"acme": (0, 20), "globex": (0, 20)}) as table, ProviderServer() as server:
        server.always(Reply(status=503, headers={"Retry-After": "60"}))
        chosen = settings(server)
        settled: list[Outcome] = []

        def break_down(outcome: Outcome) -> None:
            settled.append(outcome)
            raise ZeroDivisionError

        table.execute("INSERT INTO docs (id, tenant, body) VALUES (100, 'initech', 'no key')")
        with opened(database, chosen, keys=KEYS) as repair:
            plan = repair.plan()
            with pytest.raises(ZeroDivisionError):
                repair.run(plan, tmp_path, break_down)
            assert settled
            assert len(server.requests) == 2
            assert repair.budget.reserved == 0


SCRIPT = """
import sys
from contextlib import ExitStack
from pathlib import Path
from tests.repairs import environment, repaired, settings
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
        probes = 2 * 2  # a healthy row of each tenant, in both runs
        # In flight are batches that are asked for, and those that wait for their write.
        assert len(server.texts) - probes <= 100 + 4 * 5 + 2 * 2 * 5


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
        assert sum('"event": "replacing"' in line for line in journal) == 50


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
        # The probe; then the first batch alone, which was to prove the check.
        assert 1 < len(server.requests) <= 1 + 1 + 4
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
