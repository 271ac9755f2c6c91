"""Guarded writes against a real server: what is written, what is not, and what is said of it."""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from checks.connection import connect, parse_url
from remediation.accepted import repairable_checks
from remediation.lock import LockLostError
from remediation.outcomes import Outcome
from remediation.selection import RowReader
from remediation.writer import Writer
from remediation.writes import NewVector
from tests.faults.link import Link, cut
from tests.faults.wire import Step
from tests.provider_server import vector_of
from tests.repairs import docs, examined, settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from remediation.batching import FailingRow


@contextmanager
def writing(url: str, through: str | None = None, **options: Any) -> Iterator[Writing]:
    """A writer for `docs`, and the failing rows as they were read; writes go `through` a URL."""
    chosen = settings("http://127.0.0.1:9", **options)
    examination = examined(url, chosen, "docs")
    place = parse_url(url, variable="DATABASE_URL")
    reader = RowReader(
        target=examination.target,
        checks=repairable_checks(examination),
        place=place,
        timeout=timedelta(seconds=10),
    )
    with connect(place) as connection:
        rows = list(reader.failing_rows(connection, tenants=None))
    yield Writing(reader, rows, parse_url(through or url, variable="DATABASE_URL"))


class Writing:
    """Rows that were read, and one writer for them."""

    def __init__(self, reader: RowReader, rows: list[FailingRow], place: Any) -> None:
        self.rows = rows
        self.kept: list[NewVector] = []
        self.lost_after = 1_000
        self.writer = Writer(
            target=reader.target,
            reader=reader,
            place=place,
            stop=threading.Event(),
            check_lock=self._check,
            before_write=self.kept.extend,
        )

    def _check(self) -> None:
        self.lost_after -= 1
        if self.lost_after < 0:
            raise LockLostError("the lock is lost")

    def write(self, rows: Sequence[FailingRow] | None = None) -> dict[str, tuple[Outcome, str]]:
        chosen = self.rows if rows is None else rows
        try:
            written = self.writer.write(
                [NewVector(row=row, vector=vector_of(row.text)) for row in chosen]
            )
        finally:
            self.writer.close()
        assert [outcome.row for outcome in written.outcomes] == list(chosen)
        return {o.row.key[0]: (o.outcome, o.reason) for o in written.outcomes}


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
        assert [new.row for new in work.kept] == work.rows
        assert table.wrong() == [7]


def test_a_lost_lock_leaves_what_was_written_fixed_and_the_rest_failed(database: str) -> None:
    with docs(database, {"acme": (1, 40)}) as table, writing(database) as work:
        work.lost_after = 2  # a chunk is checked before it is kept, and before it is tried
        said = work.write()
        fixed = [key for key, outcome in said.items() if outcome == FIXED]
        assert len(fixed) == 10
        assert set(said.values()) == {FIXED, (Outcome.FAILED, "the lock is lost")}
        assert len(table.wrong()) == 30


def test_a_row_locked_by_another_session_is_skipped_and_its_neighbours_are_written(
    database: str,
) -> None:
    with docs(database, {"acme": (1, 9)}) as table, writing(database) as work:
        with psycopg.connect(database) as other:
            other.execute("UPDATE docs SET note = 'mine' WHERE id IN (3, 5)")
            said = work.write()
        assert {key for key, (outcome, _) in said.items() if outcome is Outcome.SKIPPED} == {
            "3",
            "5",
        }
        assert table.wrong() == [3, 5]


def test_a_locked_table_is_waited_for_but_not_forever(database: str) -> None:
    with docs(database, {"acme": (1, 3)}) as table, writing(database) as work:
        with psycopg.connect(database) as other:
            other.execute("LOCK TABLE docs IN SHARE MODE")
            said = work.write()
        assert {outcome for outcome, _ in said.values()} == {Outcome.SKIPPED}
        assert all("locked by another session" in reason for _, reason in said.values())
        assert table.wrong() == [2, 3, 4]


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
