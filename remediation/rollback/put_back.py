"""Puts back each vector that a run replaced, sets it to NULL, or deletes the row it inserted.

Overwrites only what the run that is rolled back wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.adapt import Dumper
from psycopg.pq import Format

from checks.database.catalog import read_type_oids
from checks.database.connection import read_only
from remediation.journal.outcomes import Outcome, RowOutcome
from remediation.rollback.history import PutBack
from remediation.rollback.undo_statements import (
    StoredVector,
    compile_delete,
    compile_held,
    compile_held_lock,
    compile_insert_again,
    compile_put_back,
    put_back_parameters,
)
from remediation.selection.batching import FailingRow
from remediation.selection.given_keys import key_arrays
from remediation.selection.row_reader import md5
from remediation.writing.changes import LOCK_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from psycopg import sql

    from checks.database.connection import Connection, ConnectionTarget
    from checks.targets.target import Target
    from remediation.rollback.history import Before
    from remediation.selection.batching import Key
    from remediation.writing.verdicts import Attempt

ARRAY_ELEMENTS = {"real[]": "float4", "double precision[]": "float8"}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredRow:
    """What holds a key's embedding now: the vector in its binary form, and what stands beside."""

    vector: bytes | None
    beside: tuple[str | None, ...]
    absent: bool = False

    @property
    def vector_hash(self) -> str | None:
        return None if self.vector is None else md5(self.vector)

    def is_as(self, row: FailingRow) -> bool:
        """Whether it is as it was read."""
        if self.absent or row.missing:
            return self.absent and row.missing
        return (self.vector_hash, self.beside) == (row.vector_hash, row.beside)

    def is_back(self, before: Before) -> bool:
        """Whether it is as it was before the run."""
        if self.absent or before.absent:
            return self.absent and before.absent
        return (self.vector, self.beside) == (before.vector, before.beside)


GONE = StoredRow(vector=None, beside=(), absent=True)


def put_back(key: Key, now: StoredRow, before: Before) -> PutBack:
    """What to put back in a row that is as the run left it."""
    row = FailingRow(
        key=key,
        tenant=before.tenant,
        text="",
        text_hash=before.text_hash,
        vector_hash=now.vector_hash,
        checks=before.checks,
        vector=now.vector,
        beside=(None,) * len(before.beside) if now.absent else now.beside,
        missing=now.absent,
    )
    return PutBack(row=row, before=before)


def read_stored(connection: Connection, target: Target, keys: Sequence[Key]) -> list[StoredRow]:
    """The rows that hold the embeddings of keys, aligned with them. Raises psycopg's errors."""
    held = [GONE] * len(keys)
    for position, vector, beside in connection.execute(compile_held(target), key_arrays(keys)):
        held[position - 1] = StoredRow(vector=vector, beside=tuple(beside))
    return held


@dataclass(kw_only=True, slots=True)
class PutBacks:
    """Writes the changes of one target's rollback."""

    target: Target
    place: ConnectionTarget
    timeout: timedelta

    def adapt(self, connection: Connection) -> None:
        name = self.target.embedding_type.name
        if name in ARRAY_ELEMENTS:
            oid = connection.adapters.types[ARRAY_ELEMENTS[name]].array_oid
        else:
            schema = self.target.server.vector_schema or ""
            with read_only(connection, self.place, statement_timeout=self.timeout):
                oid, _ = read_type_oids(connection, schema, name)
        connection.adapters.register_dumper(StoredVector, _dumper_of(oid))

    def foresee(self, chunk: Sequence[PutBack]) -> list[PutBack]:
        return list(chunk)  # what was stored once is known by its bytes

    def write(
        self, connection: Connection, chunk: Sequence[PutBack]
    ) -> tuple[list[PutBack], dict[Key, str | None]]:
        absent = [put for put in chunk if put.row.missing]
        going = [put for put in chunk if put.deletes and not put.row.missing]
        staying = [put for put in chunk if not put.deletes and not put.row.missing]
        store = self.target.store
        reached = absent
        stored: dict[Key, str | None] = {}
        for puts, deleting in ((staying, False), (going, True)):
            ours = self._locked(connection, puts, deleting=deleting)
            compiled = compile_delete if deleting else compile_put_back
            stored |= self._run(connection, compiled(self.target, len(ours)), ours)
            reached = [*reached, *ours]
        if store is not None:
            again = compile_insert_again(self.target, store, len(absent))
            stored |= self._run(connection, again, absent)
        return reached, stored

    def _locked(
        self, connection: Connection, puts: Sequence[PutBack], *, deleting: bool
    ) -> list[PutBack]:
        """Those that no other session holds."""
        if not puts:
            return []
        found = connection.execute(
            compile_held_lock(self.target, deleting=deleting),
            key_arrays([put.row.key for put in puts]),
        ).fetchall()
        locked = {position - 1 for (position,) in found}
        return [put for position, put in enumerate(puts) if position in locked]

    def _run(
        self, connection: Connection, statement: sql.Composed, puts: Sequence[PutBack]
    ) -> dict[Key, str | None]:
        if not puts:
            return {}
        parameters = put_back_parameters(puts)
        parameters |= key_arrays([put.row.key for put in puts])
        written = connection.execute(statement, parameters).fetchall()
        return {puts[position - 1].row.key: stored for position, stored in written}

    def recognise(self, connection: Connection, chunk: Sequence[PutBack], attempt: Attempt) -> None:
        unknown = [put for put in chunk if put.row.key not in attempt.stored]
        if not unknown:
            return
        held = self._held(connection, unknown)
        for put, now in zip(unknown, held, strict=True):
            if now.is_back(put.before):
                attempt.stored[put.row.key] = now.vector_hash

    def judge(
        self, connection: Connection, chunk: Sequence[PutBack], attempt: Attempt
    ) -> list[RowOutcome | None]:
        held = self._held(connection, chunk)
        return [judge_put_back(put, now, attempt) for put, now in zip(chunk, held, strict=True)]

    def _held(self, connection: Connection, puts: Sequence[PutBack]) -> list[StoredRow]:
        """The rows as they are now, read like before: times as texts in the same zone."""
        with read_only(
            connection,
            self.place,
            statement_timeout=self.timeout,
            row_security=self.target.row_security,
            lock_timeout=LOCK_TIMEOUT,
        ):
            return read_stored(connection, self.target, [put.row.key for put in puts])

    def gone(self, connection: Connection, change: PutBack) -> RowOutcome | None:  # noqa: ARG002 - a foreign key that refuses a DELETE refuses it for good
        return None


def judge_put_back(put: PutBack, now: StoredRow, attempt: Attempt) -> RowOutcome | None:
    """The outcome of a row by what is there now; None while another session holds it."""
    row = put.row
    wrote = row.key in attempt.stored
    stored = attempt.stored.get(row.key)
    if now.is_back(put.before) and wrote:
        return RowOutcome(row=row, outcome=Outcome.RESTORED, written_hash=now.vector_hash)
    if wrote:
        ours = not now.absent and now.vector_hash == stored
        outcome, reason = (
            (Outcome.FAILED, "a trigger or rule stored something else than was put back")
            if ours or put.deletes
            else (Outcome.SUPERSEDED, "changed by someone else after it was put back")
        )
        return RowOutcome(row=row, outcome=outcome, reason=reason, written_hash=stored)
    if not now.is_as(row):
        reason = "changed by someone else meanwhile"
        return RowOutcome(row=row, outcome=Outcome.SUPERSEDED, reason=reason)
    if row.missing:
        reason = "its row changed or is gone since, so its store row is not inserted again"
        return RowOutcome(row=row, outcome=Outcome.SUPERSEDED, reason=reason)
    if row.key not in attempt.locked:
        return None
    reason = "not written, though nothing changed: a trigger, rule or policy is in the way"
    return RowOutcome(row=row, outcome=Outcome.FAILED, reason=reason)


def _dumper_of(oid: int) -> type[Dumper]:
    """A dumper of stored vectors of one type."""

    class StoredVectorDumper(Dumper):
        format = Format.BINARY

        def dump(self, obj: StoredVector) -> bytes:
            return obj.content

    StoredVectorDumper.oid = oid
    return StoredVectorDumper
