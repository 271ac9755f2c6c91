"""Asks the server's planner whether a partial index holds the rows of the declared scope.

Plans one statement for each kind of index and reads no row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import psycopg
from psycopg import sql

from checks.database.expressions import embed_sql
from checks.targets.store_rows import STORE, meant_alone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import LiteralString

    from checks.database.connection import Connection
    from checks.database.vectors.ann_indexes import AnnIndex, IndexedRelation
    from checks.targets.target import Target

OPERATORS = {"cosine": "<=>", "l2": "<->", "inner_product": "<#>"}


@dataclass(kw_only=True, slots=True)
class Scopes:
    """Asks whether partial indexes hold the rows of the declared scope, once for each kind."""

    connection: Connection
    _known: dict[tuple[object, ...], bool] = field(default_factory=dict)

    def covered(self, target: Target, relation: IndexedRelation, index: AnnIndex) -> bool:
        """Whether the server itself can prove that the index holds all rows of the scope."""
        if index.predicate is None:
            return True
        kind = (
            target.entry,
            index.predicate,
            index.method,
            index.operator_class,
            index.expression,
        )
        if kind not in self._known:
            self._known[kind] = _proven(self.connection, target, relation, index)
        return self._known[kind]


def _proven(
    connection: Connection, target: Target, relation: IndexedRelation, index: AnnIndex
) -> bool:
    """Whether the planner takes the index for a search within the scope, which needs the proof.

    It uses a partial index only where the query's conditions imply the index's own.
    """
    name = sql.Identifier(target.embedding.name)
    # Safe to run: the server printed it, and it is a cast of the column.
    printed = cast("LiteralString", index.expression)
    key: sql.Composable = name if index.expression is None else sql.SQL(printed)
    store = target.store
    where = target.declared.where
    scope = sql.SQL("true") if where is None else embed_sql(where)
    operator: sql.Composable = sql.SQL(OPERATORS[target.declared.metric])
    schema = target.server.vector_schema
    if schema is not None:
        operator = sql.SQL("OPERATOR({}.{})").format(sql.Identifier(schema), operator)
    statement = sql.SQL(
        "EXPLAIN (FORMAT JSON, COSTS OFF) SELECT FROM {table} WHERE {where} AND {name} IS NOT NULL"
        " ORDER BY {key} {operator} (SELECT {key} FROM {table} LIMIT 1) LIMIT 1"
    ).format(
        table=sql.SQL("{} AS {}").format(
            sql.Identifier(relation.schema, relation.name),
            sql.Identifier(target.facts.name) if store is None else STORE,
        ),
        where=scope if store is None else meant_alone(store),
        name=name,
        key=key,
        operator=operator,
    )
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("SET LOCAL row_security = on")
            for other_way in ("enable_seqscan", "enable_bitmapscan", "enable_sort"):
                connection.execute("SELECT pg_catalog.set_config(%s, 'off', true)", (other_way,))
            row = connection.execute(statement).fetchone()
    except psycopg.OperationalError:
        raise
    except psycopg.Error:
        return False
    return row is not None and index.name in index_names(row[0])


def index_names(plan: object) -> Iterator[str]:
    """Every index that a plan uses."""
    if isinstance(plan, list):
        for part in plan:
            yield from index_names(part)
    elif isinstance(plan, dict):
        if "Index Name" in plan:
            yield plan["Index Name"]
        for part in plan.values():
            yield from index_names(part)
