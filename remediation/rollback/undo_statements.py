"""Builds the statements of a rollback: read rows by key, put back, delete, insert.

Builds SQL and its parameters; runs nothing. A rollback accepts a row as the run left it, whatever
its text, tenant and scope are now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from checks.database.expressions import beside_parameters, unnested
from checks.targets.provenance import kept_text
from checks.targets.store_rows import meant
from remediation.selection.given_keys import key_is, type_of
from remediation.writing.store_statements import copied_text, insert_rows
from remediation.writing.table_statements import beside_unchanged, key_names, key_parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.catalog import Column
    from checks.targets.stores import StoreTable
    from checks.targets.target import Target
    from remediation.rollback.history import PutBack

HELD = sql.Identifier("integrity_held")
"""What the rows that hold the embeddings are called: the store's, or the table's own."""


@dataclass(frozen=True, slots=True)
class StoredVector:
    """A vector to put back, in the binary form of its own type."""

    content: bytes


def compile_held(target: Target) -> sql.Composed:
    """The rows that hold the embeddings of keys.

    Parameters: keys_1 … keys_n. Returns position among the keys (from 1), the stored vector's
    binary form, and what stands beside it as texts.
    """
    beside = (kept_text(_held(held.column.name)) for held in target.written_beside)
    return sql.SQL(
        """
SELECT integrity_position, {stored}, ARRAY[{beside}]::text[]
FROM {table} AS {held}
JOIN {keys} WITH ORDINALITY AS integrity_row ({key_names}, integrity_position)
  ON {same_key}
"""
    ).format(
        stored=beside_parameters(_stored(target)),
        beside=beside_parameters(sql.SQL(", ").join(list(beside))),
        table=_table(target),
        held=HELD,
        keys=unnested(key_parameters(target)),
        key_names=key_names(target),
        same_key=_same_key(target),
    )


def compile_held_lock(target: Target, *, deleting: bool) -> sql.Composed:
    """Lock the keyed rows that no other session holds, as the write itself would.

    Parameters: keys_1 … keys_n. Returns positions of the locked rows among the keys.
    """
    return sql.SQL(
        """
SELECT integrity_position
FROM {table} AS {held}
JOIN {keys} WITH ORDINALITY AS integrity_row ({key_names}, integrity_position)
  ON {same_key}
FOR {strength} OF {held} SKIP LOCKED
"""
    ).format(
        table=_table(target),
        held=HELD,
        keys=unnested(key_parameters(target)),
        key_names=key_names(target),
        same_key=_same_key(target),
        strength=sql.SQL("UPDATE" if deleting else "NO KEY UPDATE"),
    )


def compile_put_back(target: Target, rows: int) -> sql.Composed:
    """UPDATE by key, guarded by the vector and by what stands beside it.

    Parameters: `put_back_parameters`. Returns position and md5 of the stored vector for each row
    written.
    """
    assignments = {target.embedding.name: sql.SQL("integrity_row.integrity_new"), **_old(target)}
    return sql.SQL(
        """
UPDATE {table} AS {held}
SET {assignments}
FROM {rows}
WHERE {same_key}
  AND md5({stored}) IS NOT DISTINCT FROM integrity_row.integrity_vector{unchanged}
RETURNING integrity_row.integrity_position, md5({stored})
"""
    ).format(
        table=_table(target),
        held=HELD,
        assignments=sql.SQL(",\n    ").join(
            sql.SQL("{} = {}").format(beside_parameters(sql.Identifier(name)), value)
            for name, value in assignments.items()
        ),
        rows=_rows(target, rows),
        same_key=_same_key(target),
        stored=beside_parameters(_stored(target)),
        unchanged=beside_unchanged(target, HELD),
    )


def compile_delete(target: Target, rows: int) -> sql.Composed:
    """DELETE of store rows that the run inserted, guarded as `compile_put_back`.

    Takes and returns the same, with NULL for the md5.
    """
    return sql.SQL(
        """
DELETE FROM {table} AS {held}
USING {rows}
WHERE {same_key}
  AND md5({stored}) IS NOT DISTINCT FROM integrity_row.integrity_vector{unchanged}
RETURNING integrity_row.integrity_position, NULL::text
"""
    ).format(
        table=_table(target),
        held=HELD,
        rows=_rows(target, rows),
        same_key=_same_key(target),
        stored=beside_parameters(_stored(target)),
        unchanged=beside_unchanged(target, HELD),
    )


def compile_dragged(store: StoreTable) -> sql.Composed:
    """Tables with a foreign key by which rows of theirs would be deleted or changed with a store's.

    Takes no parameters. Returns their names; a partition's key counts as its table's.
    """
    return sql.SQL(
        """
SELECT DISTINCT conrelid::regclass::text
FROM pg_catalog.pg_constraint
WHERE contype = 'f' AND confrelid = {oid}::oid AND confdeltype IN ('c', 'n', 'd')
ORDER BY 1
"""
    ).format(oid=sql.Literal(store.relation.oid))


def compile_insert_again(target: Target, store: StoreTable, rows: int) -> sql.Composed:
    """INSERT of store rows that a rollback deleted, where the table's row is the same as then.

    Parameters: `put_back_parameters`, and keys_1 … keys_n. Returns as `compile_put_back`.
    """
    values: dict[str, sql.Composable] = {
        store.declared.embedding: sql.SQL("integrity_row.integrity_new"),
        **_old(target),
        **copied_text(store),
    }
    return insert_rows(target, store, read=_rows(target, rows), written=values)


def put_back_parameters(puts: Sequence[PutBack]) -> dict[str, Any]:
    """The parameters of the statements above, from each row."""
    parameters: dict[str, Any] = {}
    for position, put in enumerate(puts, start=1):
        row, before = put.row, put.before
        values: dict[str, Any] = {
            **{f"key_{i}": value for i, value in enumerate(row.key, start=1)},
            "tenant": before.tenant,
            "text": before.text_hash,
            "vector": row.vector_hash,
            "new": None if before.vector is None else StoredVector(before.vector),
            **{f"was_{i}": value for i, value in enumerate(row.beside, start=1)},
            **{f"old_{i}": value for i, value in enumerate(before.beside, start=1)},
        }
        parameters |= {f"{name}_of_{position}": value for name, value in values.items()}
    return parameters


def _rows(target: Target, count: int) -> sql.Composed:
    """The rows of `put_back_parameters` as `integrity_row`.

    They are a list of values because unnest() would flatten an array of arrays.
    """
    names = [
        *(f"key_{i}" for i, _ in enumerate(target.key, start=1)),
        "tenant",
        "text",
        "vector",
        "new",
        *(f"was_{i}" for i, _ in enumerate(target.written_beside, start=1)),
        *(f"old_{i}" for i, _ in enumerate(target.written_beside, start=1)),
    ]
    kind = target.embedding_type
    vector = (
        kind.function(kind.name, target.server.vector_schema)
        if kind.from_extension
        else sql.SQL(kind.name)
    )

    def value(name: str, position: int) -> sql.Composable:
        parameter = f"{name}_of_{position}"
        if name == "new":
            return sql.SQL("{}::{}").format(sql.Placeholder(parameter, format="b"), vector)
        return sql.SQL("{}::text").format(sql.Placeholder(parameter))

    return sql.SQL("(VALUES {values}) AS integrity_row (integrity_position, {names})").format(
        values=sql.SQL(",\n  ").join(
            sql.SQL("({}, {})").format(
                sql.Literal(position),
                sql.SQL(", ").join([value(name, position) for name in names]),
            )
            for position in range(1, count + 1)
        ),
        names=sql.SQL(", ").join(sql.Identifier(f"integrity_{name}") for name in names),
    )


def _old(target: Target) -> dict[str, sql.Composable]:
    """The former values of the columns beside the vector, by column."""
    return {
        held.column.name: sql.SQL("integrity_row.{}::{}").format(
            sql.Identifier(f"integrity_old_{i}"), type_of(held.column.full_type)
        )
        for i, held in enumerate(target.written_beside, start=1)
    }


def _table(target: Target) -> sql.Composable:
    holder = target.holder
    return beside_parameters(sql.Identifier(holder.schema, holder.name))


def _stored(target: Target) -> sql.Composable:
    return target.embedding_type.bytes(_held(target.embedding.name), target.server.vector_schema)


def _held(name: str) -> sql.Composable:
    return sql.SQL("{}.{}").format(HELD, sql.Identifier(name))


def _same_key(target: Target) -> sql.Composable:
    store = target.store
    columns: Sequence[Column] = target.key if store is None else store.key
    same = key_is(
        target,
        [beside_parameters(_held(column.name)) for column in columns],
        [sql.Identifier("integrity_row", f"integrity_key_{i}") for i, _ in enumerate(columns, 1)],
    )
    conditions = [] if store is None else map(beside_parameters, meant(store, HELD))
    return sql.SQL(" AND ").join([same, *conditions])
