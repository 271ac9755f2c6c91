"""Writes a chunk of rows in the writer's transaction, and tells what came of each.

Runs in the writer's connection and transaction; decides nothing about tries, pace or locks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from psycopg.adapt import Dumper
from psycopg.pq import Format

from checks.database.catalog import read_type_oids
from remediation.journal.journal import Changed
from remediation.selection.given_keys import key_arrays
from remediation.selection.row_reader import md5
from remediation.writing.frozen_sets import set_checks
from remediation.writing.store_statements import (
    compile_insert,
    compile_store_lock,
    compile_store_update,
)
from remediation.writing.stored_form import stored_forms, vector_array
from remediation.writing.table_statements import (
    NewVector,
    VectorArray,
    compile_lock,
    compile_update,
    compile_write,
    new_values,
)
from remediation.writing.verdicts import Attempt, judge_write, still_locked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.connection import Connection
    from checks.targets.target import Target
    from remediation.journal.outcomes import RowOutcome
    from remediation.selection.batching import Key
    from remediation.selection.row_reader import RowReader


LOCK_TIMEOUT = timedelta(milliseconds=250)
"""For every lock that a write, or the read-back after it, would have to wait for. Who waits for the
rows of that write meanwhile waits so long, and for the write: half a second in all."""


class Change(Protocol[Changed]):
    """What is done to rows of one target; used by one writer."""

    @property
    def target(self) -> Target: ...

    def adapt(self, connection: Connection) -> None:
        """Make a new connection ready for the statements below."""

    def foresee(self, chunk: Sequence[Changed]) -> list[Changed]:
        """The chunk with what each row's vector will be stored as."""

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
    _statements: Statements | None = None
    """Of the connection that was adapted last."""

    def __post_init__(self) -> None:
        self.reader = replace(self.reader, lock_timeout=LOCK_TIMEOUT)

    def adapt(self, connection: Connection) -> None:
        self._statements = Statements.of(self.target, connection)
        schema = self.target.server.vector_schema
        if schema is not None:
            with self.reader.transaction(connection):
                oids = read_type_oids(connection, schema, "vector")
            connection.adapters.register_dumper(VectorArray, _dumper_of(*oids))

    def foresee(self, chunk: Sequence[NewVector]) -> list[NewVector]:
        kind = self.target.embedding_type.name
        if not chunk:
            return []
        forms = stored_forms(kind, [new.vector for new in chunk])
        return [
            NewVector(
                row=new.row,
                vector=new.vector,
                stored_as=md5(form),
                binary=form if kind == "vector" else None,
            )
            for new, form in zip(chunk, forms, strict=True)
        ]

    def write(
        self, connection: Connection, chunk: Sequence[NewVector]
    ) -> tuple[list[NewVector], dict[Key, str | None]]:
        statements = self._statements or Statements.of(self.target, connection)
        return _write_rows(connection, self.target, statements, chunk)

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Statements:
    """Of one target's writes, composed once: that takes longer than to run them on a few rows."""

    update: bytes
    insert: bytes | None
    """Of the rows that a store lacks."""

    @classmethod
    def of(cls, target: Target, connection: Connection) -> Statements:
        """As the connection quotes them."""
        store = target.store
        if store is None:
            lock, update, insert = compile_lock(target), compile_update(target), None
        else:
            lock, update = compile_store_lock(target, store), compile_store_update(target, store)
            insert = compile_insert(target, store).as_bytes(connection)
        return cls(update=compile_write(lock, update).as_bytes(connection), insert=insert)


def _write_rows(
    connection: Connection, target: Target, statements: Statements, chunk: Sequence[NewVector]
) -> tuple[list[NewVector], dict[tuple[str, ...], str | None]]:
    """The rows that no other session holds, and the md5 of what was stored, by key of each written.

    Raises psycopg's errors.
    """
    # A row that the store lacks can be held by nobody; one that has come since is left alone.
    missing = [new for new in chunk if new.row.missing]
    present = [new for new in chunk if not new.row.missing]
    updated = (
        connection.execute(statements.update, _parameters(target, present)) if present else None
    )
    inserted = (
        connection.execute(statements.insert, _parameters(target, missing))
        if statements.insert is not None and missing
        else None
    )
    reached = list(missing)
    stored: dict[tuple[str, ...], str | None] = {}
    for position, written, vector in updated.fetchall() if updated else ():
        new = present[position - 1]
        reached.append(new)
        if written:
            stored[new.row.key] = vector
    for position, vector in inserted.fetchall() if inserted else ():
        stored[missing[position - 1].row.key] = vector
    return reached, stored


def _parameters(target: Target, rows: Sequence[NewVector]) -> dict[str, Any]:
    return {
        **key_arrays([new.row.key for new in rows]),
        "tenants": [new.row.tenant for new in rows],
        "texts": [new.row.text_hash for new in rows],
        "vectors": [new.row.vector_hash for new in rows],
        "new": new_values(target, rows),
        **{
            f"was_{i + 1}": [new.row.beside[i] for new in rows]
            for i in range(len(target.written_beside))
        },
    }


def _dumper_of(vector: int, array: int) -> type[Dumper]:
    """A dumper of arrays of the extension's type."""

    class VectorArrayDumper(Dumper):
        format = Format.BINARY
        oid = array

        def dump(self, obj: VectorArray) -> bytes:
            return vector_array(obj.elements, vector)

    return VectorArrayDumper
