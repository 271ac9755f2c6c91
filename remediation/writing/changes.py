"""What a `Writer` writes: how a chunk of rows is changed, and how to tell what came of it.

Runs in the writer's connection and transaction; decides nothing about tries, pace or locks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from pgvector.psycopg.vector import register_vector_info
from psycopg import sql
from psycopg.types import TypeInfo

from remediation.writing.frozen_sets import set_checks
from remediation.writing.statements import write_rows
from remediation.writing.table_statements import NewVector, compile_stored, new_values
from remediation.writing.verdicts import Attempt, judge_write, still_locked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.connection import Connection
    from checks.targets.target import Target
    from remediation.journal.outcomes import RowOutcome
    from remediation.selection.batching import FailingRow
    from remediation.selection.row_reader import RowReader

LOCK_TIMEOUT = timedelta(milliseconds=500)
"""For every lock that a write, or the read-back after it, would have to wait for."""

Key: TypeAlias = tuple[str, ...]


class RowChange(Protocol):
    """A row as it was read, with what is to be written of it."""

    @property
    def row(self) -> FailingRow: ...

    @property
    def stored_as(self) -> str | None:
        """The md5 of the vector that will be stored, None for no vector."""

    @property
    def deletes(self) -> bool:
        """Whether the row goes, in place of getting a vector."""


Changed = TypeVar("Changed", bound=RowChange)


class Change(Protocol[Changed]):
    """What is done to rows of one target; used by one writer."""

    @property
    def target(self) -> Target: ...

    def adapt(self, connection: Connection) -> None:
        """Make a new connection ready for the statements below."""

    def foresee(self, connection: Connection, chunk: Sequence[Changed]) -> list[Changed]:
        """The chunk with what each row's vector will be stored as. Raises psycopg's errors."""

    def write(
        self, connection: Connection, chunk: Sequence[Changed]
    ) -> tuple[list[Changed], dict[Key, str | None]]:
        """One try, in the writer's transaction. Raises psycopg's errors.

        Returns the rows that no other session holds, and of each row that was written the md5 of
        its vector, None for no vector.
        """

    def recognise(self, connection: Connection, chunk: Sequence[Changed], attempt: Attempt) -> None:
        """Enter in the attempt what our own writes stored whose COMMIT went unanswered."""

    def judge(
        self, connection: Connection, chunk: Sequence[Changed], attempt: Attempt
    ) -> list[RowOutcome | None]:
        """What came of each row, read back; None where another session holds it still."""

    def gone(self, connection: Connection, change: Changed) -> RowOutcome | None:
        """The outcome of a row that a foreign key refused, where it is rightly refused."""


@dataclass(kw_only=True, slots=True)
class NewVectors:
    """The change of a repair: a new vector for each failing row."""

    target: Target
    reader: RowReader

    def __post_init__(self) -> None:
        self.reader = replace(self.reader, lock_timeout=LOCK_TIMEOUT)

    def adapt(self, connection: Connection) -> None:
        schema = self.target.server.vector_schema
        if schema is not None:
            # By its schema: the extension's may not be on the search path.
            name = sql.Identifier(schema, "vector")
            register_vector_info(connection, TypeInfo.fetch(connection, name))

    def foresee(self, connection: Connection, chunk: Sequence[NewVector]) -> list[NewVector]:
        found = connection.execute(
            compile_stored(self.target), {"new": new_values(self.target, chunk)}
        ).fetchall()
        stored: dict[int, str] = dict(found)
        return [replace(new, stored_as=stored[n]) for n, new in enumerate(chunk, start=1)]

    def write(
        self, connection: Connection, chunk: Sequence[NewVector]
    ) -> tuple[list[NewVector], dict[Key, str | None]]:
        return write_rows(connection, self.target, chunk)

    def recognise(
        self, connection: Connection, chunk: Sequence[NewVector], attempt: Attempt
    ) -> None:
        unknown = [new for new in chunk if new.row.key not in attempt.stored]
        if not unknown:
            return
        current = self.reader.read_back(connection, [new.row.key for new in unknown])
        for new, now in zip(unknown, current, strict=True):
            if now is None or new.stored_as is None or now.vector_hash != new.stored_as:
                continue
            row = new.row
            # A new vector may be the one that it replaces: then what stands beside it tells.
            if (now.vector_hash, now.beside, now.missing) != (
                row.vector_hash,
                row.beside,
                row.missing,
            ):
                attempt.stored[row.key] = now.vector_hash

    def judge(
        self, connection: Connection, chunk: Sequence[NewVector], attempt: Attempt
    ) -> list[RowOutcome | None]:
        current = self.reader.read_back(connection, [new.row.key for new in chunk])
        about_sets = set_checks(self.reader.checks)
        return [
            None
            if still_locked(new.row, now, attempt)
            else judge_write(new.row, now, attempt, about_sets=about_sets)
            for new, now in zip(chunk, current, strict=True)
        ]

    def gone(self, connection: Connection, change: NewVector) -> RowOutcome | None:
        (now,) = self.reader.read_back(connection, [change.row.key])
        return judge_write(change.row, now, Attempt()) if now is None else None
