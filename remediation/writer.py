"""Guarded writes: an UPDATE that repeats what was read, then a read-back that says what became of it.

The only module that changes rows of a user's table. Overwrites nothing that changed since it was read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql

from checks.connection import connect, reason_of, set_local
from checks.expressions import beside_parameters
from checks.rows import tenant_of, text_of
from remediation.outcomes import Outcome, RowOutcome
from remediation.selection import key_arrays, type_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from checks.connection import Connection, ConnectionTarget
    from checks.rules import AppliedCheck
    from checks.targets import Target
    from remediation.batching import FailingRow
    from remediation.selection import CurrentRow, RowReader

LOCK_TIMEOUT = timedelta(milliseconds=500)
STATEMENT_TIMEOUT = timedelta(seconds=5)
FIRST_ROWS = 10
"""Rows of the first write transaction; under an HNSW index each may cost 35 ms."""
GROWTH = 1.2
MOST_ROWS = 500
ATTEMPTS = 6
"""Tries of one write before its rows are given up as failed."""
PAUSE_SECONDS = 0.2

_LOCKED = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class NewVector:
    """A row and the vector its text was given: float32, shape (dimensions,)."""

    row: FailingRow
    vector: NDArray[np.float32]


@dataclass(kw_only=True, slots=True)
class Pace:
    """Rows per write transaction: starts small, grows gently, halves as soon as one times out."""

    rows: float = FIRST_ROWS

    def faster(self) -> None:
        self.rows = min(self.rows * GROWTH, MOST_ROWS)

    def slower(self) -> None:
        self.rows = max(1.0, self.rows / 2)


@dataclass(kw_only=True, slots=True)
class Writer:
    """Writes vectors of one target over one connection of its own; used by one thread at a time."""

    target: Target
    reader: RowReader
    place: ConnectionTarget
    stop: threading.Event
    before_write: Callable[[Sequence[NewVector]], None]
    """Called ahead of each write with its rows; keeps what is about to be replaced."""
    _connection: Connection | None = None
    _pace: Pace = field(default_factory=Pace)

    def write(self, vectors: Sequence[NewVector]) -> list[RowOutcome]:
        """Write in short transactions; an outcome for each row, in order."""
        outcomes: list[RowOutcome] = []
        waiting = list(vectors)
        while waiting:
            chunk = waiting[: max(1, int(self._pace.rows))]
            outcomes += self._settle(chunk)
            waiting = waiting[len(chunk) :]
        return outcomes

    def close(self) -> None:
        """Close the connection; the writer opens a new one when it is used again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _settle(self, chunk: Sequence[NewVector]) -> list[RowOutcome]:
        """Write one chunk, trying again on locks and lost connections, and read it back.

        A COMMIT whose answer was lost may have succeeded: what was read before guards the second
        try, and the read-back decides.
        """
        self.before_write(chunk)
        written: dict[int, str] = {}
        trouble = ""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                written |= self._update(chunk)
                self._pace.faster()
                return self._read_back(chunk, written)
            except _LOCKED as error:
                trouble = f"locked by another session: {reason_of(error)}"
                self._pace.slower()
                if self._split_helps(chunk, error):
                    half = len(chunk) // 2
                    return self._settle(chunk[:half]) + self._settle(chunk[half:])
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                trouble = f"the connection to the database was lost: {reason_of(error)}"
                self.close()
            except psycopg.Error as error:
                return [
                    RowOutcome(
                        row=new.row,
                        outcome=Outcome.FAILED,
                        reason=f"the database refused the write: {reason_of(error)}",
                    )
                    for new in chunk
                ]
            if attempt < ATTEMPTS and self.stop.wait(PAUSE_SECONDS * 2**attempt):
                break
        return [RowOutcome(row=new.row, outcome=Outcome.FAILED, reason=trouble) for new in chunk]

    def _split_helps(self, chunk: Sequence[NewVector], error: psycopg.Error) -> bool:
        """One locked row must not hold up its neighbours."""
        return len(chunk) > 1 and isinstance(
            error, (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled)
        )

    def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self.place)
            if self.target.server.vector_version is not None:
                register_vector(self._connection)
        return self._connection

    def _update(self, chunk: Sequence[NewVector]) -> dict[int, str]:
        """Positions in the chunk that were written, with the md5 of what is stored now."""
        connection = self._open()
        with connection.transaction():
            set_local(
                connection,
                self.place,
                statement_timeout=STATEMENT_TIMEOUT,
                lock_timeout=LOCK_TIMEOUT,
                row_security=self.target.facts.row_security,
            )
            rows = connection.execute(
                compile_update(self.target),
                {
                    **key_arrays([new.row.key for new in chunk]),
                    "tenants": [new.row.tenant for new in chunk],
                    "texts": [new.row.text_hash for new in chunk],
                    "vectors": [new.row.vector_hash for new in chunk],
                    "new": [new.vector for new in chunk],
                },
            ).fetchall()
        return {position - 1: stored for position, stored in rows}

    def _read_back(self, chunk: Sequence[NewVector], written: dict[int, str]) -> list[RowOutcome]:
        current = self.reader.read_back(self._open(), [new.row.key for new in chunk])
        return [
            judge_write(new.row, now, written.get(position))
            for position, (new, now) in enumerate(zip(chunk, current, strict=True))
        ]


def compile_update(target: Target) -> sql.Composed:
    """UPDATE by key, guarded by tenant, text and stored vector as they were read.

    Parameters: keys_1 … keys_n, tenants, texts, vectors (md5 of each, NULL for no vector) and
    new (a `vector[]`). Returns position and md5 of the stored vector for each row written.
    """
    schema = target.server.vector_schema
    own = sql.Identifier(target.facts.name)
    column = sql.Identifier(target.embedding.name)
    positions = range(1, len(target.key) + 1)
    stored = target.embedding_type.bytes(sql.SQL("{}.{}").format(own, column), schema)
    return sql.SQL(
        """
UPDATE {table}
SET {column} = {new}
FROM unnest({keys}, %(tenants)s::text[], %(texts)s::text[], %(vectors)s::text[],
            %(new)b::{vector}[])
     WITH ORDINALITY AS integrity_row
     ({key_names}, integrity_tenant, integrity_text, integrity_vector, integrity_new,
      integrity_position)
WHERE {same_key}
  AND {tenant} IS NOT DISTINCT FROM integrity_tenant
  AND md5(coalesce({text}, '')) = integrity_text
  AND md5({stored}) IS NOT DISTINCT FROM integrity_vector
RETURNING integrity_position, md5({stored})
"""
    ).format(
        table=beside_parameters(target.identifier),
        column=beside_parameters(column),
        new=target.embedding_type.cast_from_vector(sql.SQL("integrity_new"), schema),
        keys=sql.SQL(", ").join(
            sql.SQL("{}::text[]").format(sql.Placeholder(f"keys_{i}")) for i in positions
        ),
        vector=sql.Identifier(schema, "vector") if schema else sql.Identifier("vector"),
        key_names=sql.SQL(", ").join(sql.Identifier(f"integrity_key_{i}") for i in positions),
        same_key=sql.SQL(" AND ").join(
            sql.SQL("{}.{} = {}::{}").format(
                beside_parameters(own),
                beside_parameters(sql.Identifier(key.name)),
                sql.Identifier(f"integrity_key_{i}"),
                type_of(key.full_type),
            )
            for i, key in enumerate(target.key, start=1)
        ),
        tenant=beside_parameters(tenant_of(target)),
        text=beside_parameters(text_of(target)),
        stored=beside_parameters(stored),
    )


def judge_write(row: FailingRow, now: CurrentRow | None, written: str | None) -> RowOutcome:
    """What became of a row, from what was read before, what was written and what is there now."""
    if now is None:
        return RowOutcome(
            row=row,
            outcome=Outcome.SUPERSEDED,
            reason="deleted, or out of the declared scope, meanwhile",
        )
    changed = _change(row, now, written)
    still = tuple(name for name in row.checks if name in now.failing)
    if changed is not None:
        stale = (
            written is not None and now.vector_hash == written and now.text_hash != row.text_hash
        )
        return RowOutcome(
            row=row,
            outcome=Outcome.SUPERSEDED,
            reason=changed,
            written_hash=written,
            try_again=bool(still) or stale or bool(now.failing),
        )
    if written is None:
        return RowOutcome(
            row=row,
            outcome=Outcome.FAILED,
            reason="not written, though nothing changed: a trigger, rule or policy stands in the way",
            unhealed=row.checks,
        )
    if still:
        return RowOutcome(
            row=row,
            outcome=Outcome.FAILED,
            reason=f"still fails {', '.join(still)} after it was written",
            written_hash=written,
            unhealed=still,
        )
    return RowOutcome(row=row, outcome=Outcome.FIXED, written_hash=written)


def _change(row: FailingRow, now: CurrentRow, written: str | None) -> str | None:
    """How the row differs from what our own write explains, or None."""
    if now.tenant != row.tenant:
        return "moved to another tenant meanwhile"
    if now.text_hash != row.text_hash:
        return "its text was edited meanwhile"
    expected = row.vector_hash if written is None else written
    if now.vector_hash != expected:
        return "repaired or changed by someone else meanwhile"
    return None
