"""Guarded writes against a real server: what is written, what is not, and what is said of it."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from remediation.journal.outcomes import Outcome
from remediation.writing import writer
from remediation.writing.changes import NewVectors
from tests.drivers.repairs import docs
from tests.drivers.writers import writing
from tests.faults.link import Link, cut
from tests.faults.wire import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remediation.writing.table_statements import NewVector


FIXED = (Outcome.FIXED, "")


@pytest.mark.parametrize(
    ("change", "outcome", "reason"),
    [
        (
            "UPDATE docs SET body = 'new' WHERE id = 2",
            "superseded",
            "its text was edited meanwhile",
        ),
        ("DELETE FROM docs WHERE id = 2", "superseded", "deleted, or out of the declared scope"),
        ("UPDATE docs SET hidden = true WHERE id = 2", "superseded", "deleted, or out of"),
        ("UPDATE docs SET tenant = 'x' WHERE id = 2", "superseded", "moved to another tenant"),
        ("UPDATE docs SET tenant = NULL WHERE id = 2", "superseded", "moved to another tenant"),
        (
            "UPDATE docs SET embedding = '[1,0,0,0,0,0,0,0]' WHERE id = 2",
            "superseded",
            "repaired or changed by someone else",
        ),
    ],
)
def test_a_row_that_changed_since_it_was_read_is_not_overwritten(
    database: str, change: str, outcome: str, reason: str
) -> None:
    with docs(database, {"acme": (1, 3)}) as table, writing(database) as work:
        table.execute(change)
        before = table.execute("SELECT * FROM docs WHERE id = 2")
        said = work.write()
        assert said["2"][0] == outcome
        assert said["2"][1].startswith(reason)
        assert said["3"] == said["4"] == FIXED
        assert table.execute("SELECT * FROM docs WHERE id = 2") == before


def test_a_wrong_vector_that_was_changed_meanwhile_is_not_overwritten(database: str) -> None:
    with docs(database, {"acme": (3, 0)}, "vector") as table:
        table.execute("UPDATE docs SET embedding = '[1,2]' WHERE id < 3")
        with writing(database) as work:
            table.execute("UPDATE docs SET embedding = '[1,2,3]' WHERE id = 1")
            said = work.write()
        assert said["1"][0] is Outcome.SUPERSEDED
        assert said["2"] == FIXED
        assert table.execute("SELECT embedding::text FROM docs WHERE id = 1") == [("[1,2,3]",)]
        assert [new.row.vector is not None for new in work.kept] == [True, True]


def test_every_row_is_kept_once_before_it_is_written(database: str) -> None:
    with docs(database, {"acme": (1, 40)}) as table, writing(database) as work:
        with psycopg.connect(database) as other:
            other.execute("SELECT FROM docs WHERE id = 7 FOR UPDATE")
            work.write()
            work.write_held()
            assert work.held_keys == {"7"}
            other.rollback()
            other.execute("LOCK TABLE docs IN SHARE MODE")
            work.write_held()
        assert work.write_held() == {"7": FIXED}
        assert [new.row for new in work.kept] == work.rows
        assert table.wrong() == []


def test_a_lost_lock_leaves_what_was_written_fixed_and_the_rest_failed(database: str) -> None:
    with docs(database, {"acme": (1, 40)}) as table, writing(database) as work:
        work.lost_after = 1  # it is asked for once for each try of a chunk
        said = work.write()
        fixed = [key for key, outcome in said.items() if outcome == FIXED]
        assert len(fixed) == 10
        assert set(said.values()) == {FIXED, (Outcome.FAILED, "the lock is lost")}
        assert len(table.wrong()) == 30


def test_rows_that_another_session_holds_are_handed_back_and_the_others_written(
    database: str,
) -> None:
    with docs(database, {"acme": (1, 9)}) as table, writing(database) as work:
        with psycopg.connect(database) as other:
            other.execute("UPDATE docs SET note = 'mine' WHERE id IN (3, 5)")
            said = work.write()
            assert set(said.values()) == {FIXED}
            assert work.held_keys == {"3", "5"}
            assert table.wrong() == [3, 5]
            assert work.write_held() == {}
        assert work.write_held() == {"3": FIXED, "5": FIXED}
        assert table.wrong() == []
        assert table.execute("SELECT note FROM docs WHERE id IN (3, 5)") == [("mine",)] * 2


def test_a_write_whose_client_vanishes_lets_go_of_its_rows_and_is_made_again(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "IDLE_TIMEOUT", timedelta(seconds=0.5))
    write = NewVectors.write
    free: list[bool] = []

    def vanish(change: NewVectors, connection: Any, chunk: Sequence[NewVector]) -> Any:
        written = write(change, connection, chunk)
        if not free:
            with psycopg.connect(database) as other:
                other.execute("SET lock_timeout = '20s'")
                other.execute("SELECT FROM docs WHERE id = 2 FOR UPDATE")
            free.append(True)
        return written

    monkeypatch.setattr(NewVectors, "write", vanish)
    with docs(database, {"acme": (1, 3)}) as table, writing(database) as work:
        assert work.write() == dict.fromkeys(("2", "3", "4"), FIXED)
        assert free
        assert table.wrong() == []


@pytest.mark.parametrize("mode", ["SHARE", "ACCESS EXCLUSIVE"])
def test_a_locked_table_costs_one_short_wait_and_every_row_is_handed_back(
    database: str, mode: str
) -> None:
    with docs(database, {"acme": (1, 60)}) as table, writing(database) as work:
        with psycopg.connect(database) as other:
            other.execute(f"LOCK TABLE docs IN {mode} MODE")
            assert work.write() == {}
            assert all(held.whole for held in work.held)
            # The rows of one transaction were tried, the others not even kept.
            assert len(work.kept) == 10
            assert [held.kept for held in work.held] == [False] * 50 + [True] * 10
        assert set(work.write_held().values()) == {FIXED}
        assert [new.row.key for new in work.kept[10:]] == [row.key for row in work.rows[10:]]
        assert table.wrong() == []


def test_a_row_whose_trigger_waits_for_a_lock_does_not_hold_up_its_neighbours(
    database: str,
) -> None:
    with docs(database, {"acme": (1, 9)}) as table, writing(database) as work:
        table.execute("CREATE TABLE totals (id integer PRIMARY KEY, n integer)")
        table.execute("INSERT INTO totals VALUES (5, 0)")
        table.execute(
            "CREATE FUNCTION count_one() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN UPDATE totals SET n = n + 1 WHERE id = NEW.id; RETURN NEW; END $$"
        )
        table.execute(
            "CREATE TRIGGER count_one AFTER UPDATE ON docs FOR EACH ROW"
            " EXECUTE FUNCTION count_one()"
        )
        with psycopg.connect(database) as other:
            other.execute("SELECT FROM totals FOR UPDATE")
            said = work.write()
            assert set(said.values()) == {FIXED}
            assert work.held_keys == {"5"}
            assert not any(held.whole for held in work.held)
        assert work.write_held() == {"5": FIXED}
        assert table.execute("SELECT n FROM totals") == [(1,)]


@pytest.mark.parametrize("code", ["40P01", "40001"], ids=["deadlock", "serialization"])
def test_a_conflict_with_another_session_hands_the_row_back_and_writes_its_neighbours(
    database: str, code: str
) -> None:
    with docs(database, {"acme": (1, 9)}) as table, writing(database) as work:
        table.execute("CREATE TABLE conflicts AS SELECT 5 AS id")
        table.execute(
            "CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF NEW.id IN (SELECT id FROM conflicts) THEN"
            f" RAISE EXCEPTION 'in each other''s way' USING ERRCODE = '{code}'; END IF;"
            " RETURN NEW; END $$"
        )
        table.execute(
            "CREATE TRIGGER conflict BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION conflict()"
        )
        assert set(work.write().values()) == {FIXED}
        assert work.held_keys == {"5"}
        table.execute("DELETE FROM conflicts")
        assert work.write_held() == {"5": FIXED}
        assert table.wrong() == []


def test_a_row_that_is_edited_while_it_is_held_is_not_overwritten(database: str) -> None:
    with docs(database, {"acme": (1, 3)}) as table, writing(database) as work:
        with psycopg.connect(database) as other:
            other.execute("UPDATE docs SET body = 'theirs' WHERE id = 3")
            work.write()
            assert work.held_keys == {"3"}
            other.commit()
        assert work.write_held() == {
            "3": (Outcome.SUPERSEDED, "its text was edited meanwhile"),
        }
        assert table.wrong() == [3]


def test_a_lost_commit_is_known_as_our_own_write_also_after_a_lock(database: str) -> None:
    with docs(database, {"acme": (1, 6)}) as table, psycopg.connect(database) as other:
        locks: list[int] = []

        def lock_the_table() -> bool:
            # Before the second try, which follows the lost COMMIT of the first.
            if link.fired and not locks:
                locks.append(len(link.fired))
                other.execute("LOCK TABLE docs IN ACCESS EXCLUSIVE MODE")
            return True

        with Link(database) as link, writing(database, through=link.url) as work:
            link.when(Step.COMMITTED, cut)
            work.writer.may_begin = lock_the_table
            assert work.write() == {}
            assert locks == [1]
            other.rollback()
            assert table.wrong() == []
            assert set(work.write_held().values()) == {FIXED}


def test_a_commit_whose_answer_was_lost_is_known_as_our_own_write(database: str) -> None:
    with docs(database, {"acme": (1, 6)}) as table:
        with (
            Link(database) as link,
            writing(database, through=link.url) as work,
        ):
            link.when(Step.COMMITTED, cut)
            said = work.write()
            assert link.fired == [Step.COMMITTED]
        assert set(said.values()) == {FIXED}
        assert table.wrong() == []


def test_commits_whose_answers_are_all_lost_are_known_as_our_own(database: str) -> None:
    with docs(database, {"acme": (1, 6)}) as table:
        with Link(database) as link, writing(database, through=link.url) as work:
            link.when(Step.COMMITTED, cut, times=math.inf)
            said = work.write()
            assert len(link.fired) == 1
        assert set(said.values()) == {FIXED}
        assert table.wrong() == []


def test_a_server_that_stays_away_fails_the_rows_in_words(database: str) -> None:
    with docs(database, {"acme": (1, 2)}):
        with Link(database) as link:
            gone = link.url
        with writing(database, through=gone) as work:
            said = work.write()
    assert {outcome for outcome, _ in said.values()} == {Outcome.FAILED}
    assert all(r.startswith("the connection to the database was lost") for _, r in said.values())


def test_a_role_without_the_right_to_write_is_told_so(database: str) -> None:
    with docs(database, {"acme": (1, 3)}) as table:
        table.execute("CREATE ROLE reader_only LOGIN PASSWORD 'reader-only-9'")
        try:
            table.execute("GRANT SELECT ON docs TO reader_only")
            reader_url = database.replace(
                database.split("//")[1].split("@")[0], "reader_only:reader-only-9"
            )
            with writing(database, through=reader_url) as work:
                said = work.write()
            assert set(said.values()) == {
                (
                    Outcome.FAILED,
                    "the database refused the write: permission denied for table docs",
                )
            }
        finally:
            table.execute("DROP OWNED BY reader_only")
            table.execute("DROP ROLE reader_only")


def test_the_extension_may_live_in_a_schema_off_the_search_path(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA extensions")
        connection.execute("ALTER EXTENSION vector SET SCHEMA extensions")
    with docs(database, {"acme": (0, 3)}, "extensions.vector(8)") as table:
        with writing(database) as work:
            assert set(work.write().values()) == {FIXED}
        assert table.wrong() == []
