"""One try at writing some rows: which statements, in which order, to the table or its store.

Runs in the caller's transaction and judges nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediation.selection.row_statements import key_arrays
from remediation.writing.store_statements import (
    compile_insert,
    compile_store_lock,
    compile_store_update,
)
from remediation.writing.table_statements import compile_lock, compile_update, new_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import sql

    from checks.database.connection import Connection
    from checks.targets.target import Target
    from remediation.writing.table_statements import NewVector


def write_rows(
    connection: Connection, target: Target, chunk: Sequence[NewVector]
) -> tuple[list[NewVector], dict[tuple[str, ...], str | None]]:
    """The rows that no other session holds, and the md5 of what was stored, by key of each written.

    Raises psycopg's errors.
    """
    store = target.store
    keys = key_arrays([new.row.key for new in chunk])
    lock = compile_lock(target) if store is None else compile_store_lock(target, store)
    found = connection.execute(lock, keys).fetchall()
    locked = {position - 1 for (position,) in found}
    # A row that the store lacks can be held by nobody; one that has come since is left alone.
    missing = [new for new in chunk if new.row.missing]
    present = [
        new for position, new in enumerate(chunk) if position in locked and not new.row.missing
    ]
    update = compile_update(target) if store is None else compile_store_update(target, store)
    stored = _stored_by(connection, target, update, present)
    if store is not None and missing:
        stored |= _stored_by(connection, target, compile_insert(target, store), missing)
    return [*present, *missing], stored


def _stored_by(
    connection: Connection, target: Target, statement: sql.Composed, rows: Sequence[NewVector]
) -> dict[tuple[str, ...], str | None]:
    written = connection.execute(
        statement,
        {
            **key_arrays([new.row.key for new in rows], len(target.key)),
            "tenants": [new.row.tenant for new in rows],
            "texts": [new.row.text_hash for new in rows],
            "vectors": [new.row.vector_hash for new in rows],
            "new": new_values(target, rows),
            **{
                f"was_{i + 1}": [new.row.beside[i] for new in rows]
                for i in range(len(target.written_beside))
            },
        },
    ).fetchall()
    return {rows[position - 1].row.key: stored for position, stored in written}
