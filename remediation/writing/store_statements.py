"""Builds the statements of a write to a store: lock its rows, update, insert.

Builds SQL and its parameters; runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.expressions import beside_parameters, embed_sql, unnested
from checks.row_checks.row_relation import own_rows_of
from checks.targets.store_rows import (
    OWN,
    STORE,
    constant_values,
    meant,
    own_column,
    same_key,
    store_column,
)
from remediation.selection.given_keys import type_of
from remediation.writing.table_statements import (
    IS_LOCKED,
    beside_unchanged,
    cast_new,
    key_names,
    key_parameters,
    provenance_values,
    read_parameters,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checks.targets.stores import StoreTable
    from checks.targets.target import Target


def compile_store_lock(target: Target, store: StoreTable) -> sql.Composed:
    """Lock those of the store's rows that no other session holds; the table's are left free.

    Parameters: keys_1 … keys_n of the table. Returns positions of the locked rows among the keys.
    """
    return sql.SQL(
        """
SELECT integrity_row.integrity_position
FROM {table} AS {store}
JOIN {keys} WITH ORDINALITY AS integrity_row ({key_names}, integrity_position)
  ON {same_key}
FOR NO KEY UPDATE OF {store} SKIP LOCKED
"""
    ).format(
        table=beside_parameters(store.identifier),
        store=STORE,
        keys=unnested(key_parameters(target)),
        key_names=key_names(target),
        same_key=sql.SQL(" AND ").join(
            [
                *(
                    sql.SQL("{} {} {}").format(
                        beside_parameters(store_column(theirs.name)),
                        beside_parameters(theirs.operator("=", target.key[position - 1])),
                        _key_of_parameter(target, position),
                    )
                    for position, theirs in enumerate(store.key, start=1)
                ),
                *map(beside_parameters, meant(store)),
            ]
        ),
    )


def compile_store_update(target: Target, store: StoreTable) -> sql.Composed:
    """UPDATE of the store's rows by the table's key, guarded by all that was read of both rows.

    Parameters and result as of `compile_update`.
    """
    stored = target.embedding_type.bytes(
        store_column(store.declared.embedding), target.server.vector_schema
    )
    return sql.SQL(
        """
UPDATE {table} AS {store}
SET {assignments}
FROM {read}
WHERE {same_key}
  AND {unchanged}
  AND md5({stored}) IS NOT DISTINCT FROM integrity_row.integrity_vector{beside_unchanged}
  AND {locked}
RETURNING integrity_row.integrity_position, md5({stored})
"""
    ).format(
        locked=IS_LOCKED,
        table=beside_parameters(store.identifier),
        store=STORE,
        assignments=sql.SQL(",\n    ").join(
            sql.SQL("{} = {}").format(beside_parameters(sql.Identifier(name)), value)
            for name, value in _written(target, store).items()
        ),
        read=_read_rows(target, store, read_parameters(target)),
        same_key=beside_parameters(_belong_together(target, store)),
        unchanged=_unchanged(),
        beside_unchanged=beside_unchanged(target, STORE),
        stored=beside_parameters(stored),
    )


def compile_insert(target: Target, store: StoreTable) -> sql.Composed:
    """INSERT of the rows that the store lacks, guarded by what was read of the table's rows.

    A row that has come meanwhile is left as it is. Parameters as of `compile_update`, `vectors`
    being all NULL. Returns position and md5 of the stored vector for each row written.
    """
    return insert_rows(target, store, read=read_parameters(target), written=_written(target, store))


def insert_rows(
    target: Target,
    store: StoreTable,
    *,
    read: sql.Composable,
    written: Mapping[str, sql.Composable],
) -> sql.Composed:
    """The same of rows that are `read` from a relation `integrity_row`, with what is `written`.

    Parameters: those of the relation, and keys_1 … keys_n.
    """
    columns: dict[str, sql.Composable] = {
        column.name: own_column(f"integrity_key_{position}")
        for position, column in enumerate(store.key, start=1)
    }
    columns |= written
    columns |= {
        name: own_column(f"integrity_insert_{position}")
        for position, name in enumerate(store.declared.insert, start=1)
    }
    columns |= {name: beside_parameters(value) for name, value in constant_values(store).items()}
    stored = target.embedding_type.bytes(
        sql.Identifier(store.declared.embedding), target.server.vector_schema
    )
    return sql.SQL(
        """
WITH inserted ({key_names}, stored) AS (
    INSERT INTO {table} ({columns})
    SELECT {values}
    FROM {read}
    WHERE {unchanged}
      AND NOT EXISTS (SELECT FROM {table} AS {store} WHERE {same_key})
    ON CONFLICT ({unique}) DO NOTHING
    RETURNING {store_keys}, md5({stored})
)
SELECT integrity_row.integrity_position, inserted.stored
FROM inserted
JOIN {keys} WITH ORDINALITY AS integrity_row ({key_names}, integrity_position)
  ON {ours}
"""
    ).format(
        table=beside_parameters(store.identifier),
        store=STORE,
        columns=beside_parameters(sql.SQL(", ").join(map(sql.Identifier, columns))),
        values=sql.SQL(",\n           ").join(columns.values()),
        read=_read_rows(target, store, read),
        unchanged=_unchanged(),
        same_key=beside_parameters(_belong_together(target, store)),
        unique=beside_parameters(
            sql.SQL(", ").join(map(sql.Identifier, store.unique_columns or ()))
        ),
        store_keys=beside_parameters(
            sql.SQL(", ").join(sql.Identifier(column.name) for column in store.key)
        ),
        stored=beside_parameters(stored),
        keys=unnested(key_parameters(target)),
        key_names=key_names(target),
        ours=sql.SQL(" AND ").join(
            sql.SQL("inserted.{} {} {}").format(
                sql.Identifier(f"integrity_key_{position}"),
                beside_parameters(theirs.operator("=", ours)),
                _key_of_parameter(target, position),
            )
            for position, (ours, theirs) in enumerate(
                zip(target.key, store.key, strict=True), start=1
            )
        ),
    )


def _written(target: Target, store: StoreTable) -> dict[str, sql.Composable]:
    """What a write sets, by column of the store: the vector, and what it was made from."""
    updated_at = target.declared.updated_at
    values: dict[str, sql.Composable] = {store.declared.embedding: cast_new(target)}
    provenance = provenance_values(
        target,
        tenant=sql.SQL("integrity_row.integrity_tenant"),
        text_md5=sql.SQL("integrity_row.integrity_text"),
        text_hash=own_column("integrity_text_hash"),
        updated_at=None if updated_at is None else own_column("integrity_updated_at"),
    )
    values |= {name: beside_parameters(value) for name, value in provenance.items()}
    return values | copied_text(store)


def copied_text(store: StoreTable) -> dict[str, sql.Composable]:
    """The text beside the vector, by column, where a declared store keeps it."""
    return {} if store.text_column is None else {store.text_column: own_column("integrity_text")}


def _read_rows(target: Target, store: StoreTable, read: sql.Composable) -> sql.Composed:
    """What was read, as `integrity_row`, each beside the table's row as it is now."""
    inserted = {
        f"insert_{position}": sql.SQL("{}::{}").format(
            embed_sql(source), sql.SQL(store.relation.columns[name].full_type)
        )
        for position, (name, source) in enumerate(store.declared.insert.items(), start=1)
    }
    return sql.SQL(
        """{read}
JOIN {own} ON {same_key}"""
    ).format(
        read=read,
        own=beside_parameters(own_rows_of(target, inserted)),
        same_key=sql.SQL(" AND ").join(
            sql.SQL("{} {} {}").format(
                own_column(f"integrity_key_{position}"),
                beside_parameters(column.operator("=")),
                _key_of_parameter(target, position),
            )
            for position, column in enumerate(target.key, start=1)
        ),
    )


def _unchanged() -> sql.Composed:
    """That the table's row still has the tenant and the text that were read."""
    return sql.SQL(
        "{own}.integrity_tenant IS NOT DISTINCT FROM integrity_row.integrity_tenant\n"
        "  AND md5(coalesce({own}.integrity_text, '')) = integrity_row.integrity_text"
    ).format(own=OWN)


def _belong_together(target: Target, store: StoreTable) -> sql.Composed:
    same = same_key(target.key, store.key, numbered=True)
    return sql.SQL(" AND ").join([same, *meant(store)])


def _key_of_parameter(target: Target, position: int) -> sql.Composed:
    return sql.SQL("integrity_row.{}::{}").format(
        sql.Identifier(f"integrity_key_{position}"),
        type_of(target.key[position - 1].full_type),
    )
