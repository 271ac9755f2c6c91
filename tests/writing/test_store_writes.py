"""A writer of a store: what changed between read and write, and what the store refuses."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from checks.database.connection_url import parse_url
from remediation.journal.outcomes import Outcome
from remediation.writing.changes import NewVectors
from remediation.writing.table_statements import NewVector
from remediation.writing.writer import Writer
from tests.builders.stores import BY_SOMEONE, THEIRS, WIDE_DECLARED, wide
from tests.builders.tables import rows, run
from tests.drivers.repairs import meanwhile, settings
from tests.drivers.writers import reading
from tests.servers.provider_server import vector_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remediation.selection.batching import FailingRow


@contextmanager
def writing(url: str) -> Iterator[tuple[Writer[NewVector], list[FailingRow]]]:
    """A writer for the store, and the failing rows as they were read."""
    chosen = settings("http://127.0.0.1:9", tables=[WIDE_DECLARED])
    with reading(url, chosen, "insights") as (reader, connection):
        read = list(reader.failing_rows(connection, tenants=None))
    writer = Writer(
        change=NewVectors(target=reader.target, reader=reader),
        place=parse_url(url, variable="DATABASE_URL"),
        stop=threading.Event(),
        check_lock=lambda: None,
        before_write=lambda _: None,
    )
    try:
        yield writer, read
    finally:
        writer.close()


def written(writer: Writer[NewVector], read: list[FailingRow]) -> dict[int, tuple[Outcome, str]]:
    new = [NewVector(row=row, vector=vector_of(row.text)) for row in read]
    return {
        int(outcome.row.key[0]): (outcome.outcome, outcome.reason)
        for outcome in writer.write(new).outcomes
    }


SUPERSEDED = "repaired or changed by someone else meanwhile"
GONE = "deleted, or out of the declared scope, meanwhile"


@pytest.mark.parametrize(
    ("number", "change", "reason"),
    [
        (5, BY_SOMEONE.format(THEIRS, 5), SUPERSEDED),
        (5, BY_SOMEONE.format("NULL", 5), SUPERSEDED),
        (5, "UPDATE insights SET body = 'new' WHERE id = 5", "its text was edited meanwhile"),
        (5, "UPDATE insights SET tenant = 'x' WHERE id = 5", "moved to another tenant meanwhile"),
        (5, "DELETE FROM insights WHERE id = 5", GONE),
        (4, "DELETE FROM insights WHERE id = 4", GONE),
        (4, "DELETE FROM insight_embeddings WHERE insight_id = 4", SUPERSEDED),
        (3, "UPDATE insights SET body = 'newer' WHERE id = 3", "its text was edited meanwhile"),
        (2, "DELETE FROM insight_embeddings WHERE insight_id = 2", SUPERSEDED),
        (
            2,
            f"UPDATE insight_embeddings SET embedding = {THEIRS} WHERE insight_id = 2",
            SUPERSEDED,
        ),
    ],
)
def test_what_changed_between_read_and_write_is_left_as_it_is(
    database: str, number: int, change: str, reason: str
) -> None:
    wide(database)
    with writing(database) as (writer, read):
        run(database, change)
        of_row = f"SELECT * FROM insight_embeddings WHERE insight_id = {number}"
        before = rows(database, of_row)
        said = written(writer, read)
    assert said.pop(number) == (Outcome.SUPERSEDED, reason)
    assert set(said.values()) == {(Outcome.FIXED, "")}
    assert rows(database, of_row) == before


def test_a_row_that_is_deleted_as_its_store_row_is_inserted_is_told_as_gone(
    database: str,
) -> None:
    wide(database)
    with writing(database) as (writer, read), psycopg.connect(database) as other:
        # Our guard still sees the row; the foreign key waits for this, and then refuses.
        other.execute("DELETE FROM insights WHERE id = 6")

        def commit_when_waited_for(stop: threading.Event) -> None:
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE cardinality("
            with psycopg.connect(database, autocommit=True) as watching:
                while not stop.wait(0.01):
                    row = watching.execute(waiting + "pg_blocking_pids(pid)) > 0").fetchone()
                    if row is not None and row[0]:
                        other.commit()
                        return

        with meanwhile(commit_when_waited_for):
            said = written(writer, read)
    assert said.pop(6) == (Outcome.SUPERSEDED, GONE)
    assert set(said.values()) == {(Outcome.FIXED, "")}
    assert rows(database, "SELECT count(*) FROM insight_embeddings") == [(7,)]


def test_a_row_that_the_store_refuses_fails_alone(database: str) -> None:
    wide(database)
    run(
        database,
        "ALTER TABLE insight_embeddings ADD CONSTRAINT not_six CHECK (insight_id <> 6)",
        "ALTER TABLE insight_embeddings ADD UNIQUE (content)",
        "UPDATE insights SET body = 'text 1' WHERE id = 8",
    )
    with writing(database) as (writer, read):
        said = written(writer, read)
    assert said.pop(6)[0] is Outcome.FAILED
    outcome, reason = said.pop(8)
    assert outcome is Outcome.FAILED
    assert "duplicate key value violates unique constraint" in reason
    assert set(said.values()) == {(Outcome.FIXED, "")}


def test_an_insert_that_another_session_has_not_finished_holds_up_no_other_row(
    database: str,
) -> None:
    wide(database)
    with writing(database) as (writer, read), psycopg.connect(database) as other:
        other.execute(BY_SOMEONE.format(THEIRS, 6))
        other.execute("UPDATE insight_embeddings SET note = 'mine' WHERE insight_id = 3")
        said = written(writer, read)
        other.rollback()
    # The two are handed back, to be written later.
    assert said == dict.fromkeys([2, 4, 5, 7, 8], (Outcome.FIXED, ""))
