"""Searches for the nearest vectors: through an index, exactly, and within a tenant.

Reads only, in the caller's transaction, and judges nothing.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from psycopg import sql

from checks.canary.sampling import chance, one_of
from checks.database.expressions import embed_sql
from checks.database.vectors.ann_indexes import read_indexed_relations
from checks.row_checks.row_relation import rows_of
from checks.targets.indexes.missing_rows import plain_column
from checks.targets.store_rows import STORE, held_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from checks.database.connection import Connection
    from checks.database.vectors.ann_indexes import AnnIndex
    from checks.targets.target import Target

NEAREST = 10
"""Rows that a search asks for; recall is measured at this depth."""

OPERATORS = {"cosine": "<=>", "l2": "<->", "inner_product": "<#>"}
SUFFIXES = {"cosine": "_cosine_ops", "l2": "_l2_ops", "inner_product": "_ip_ops"}
"""pgvector's operators and the ends of its operator classes, by metric (its README, "Indexing")."""

Way: TypeAlias = Literal["index", "exact", "planner"]

_PLANNER: Mapping[Way, Mapping[str, str]] = {
    # Makes every plan costly that could replace the ordered scan of the index.
    "index": {
        "enable_indexscan": "on",
        "enable_seqscan": "off",
        "enable_sort": "off",
        "enable_bitmapscan": "off",
    },
    # pgvector's indexes have no other scan than the one that is off here.
    "exact": {"enable_indexscan": "off", "enable_seqscan": "on", "enable_sort": "on"},
    "planner": {},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """A stored vector to search with, as text, and its distance to itself by the metric."""

    tenant: str | None
    vector: str
    to_itself: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Searcher:
    """How one table is searched: where, by which expression, and for which metric."""

    target: Target
    index: AnnIndex

    @property
    def by_tenant(self) -> bool:
        """Whether an application can restrict its search to one tenant of this relation."""
        return self.target.declared.tenant is not None and self.target.store is None

    def queries(
        self, connection: Connection, *, tenants: Sequence[str | None], rows: int, seed: int
    ) -> list[Query]:
        """Up to `rows` stored vectors of each tenant; one without a direction is left out."""
        keys = [sql.Identifier(f"key_{i}") for i in range(1, len(self.target.key) + 1)]
        statement = sql.SQL(
            """
SELECT tenant, query::text, query {operator} query
FROM (
    SELECT tenant, embedding,
           row_number() OVER (PARTITION BY tenant ORDER BY {chance}) AS turn
    FROM {rows} AS r
    WHERE embedding IS NOT NULL AND {tenants}
) AS chosen
CROSS JOIN LATERAL (
    SELECT {expression} AS query FROM (SELECT chosen.embedding AS {column}) AS own
) AS searched
WHERE turn <= {most}
ORDER BY tenant, turn
"""
        ).format(
            operator=self._operator,
            chance=chance(keys or [sql.Identifier("text")], seed),
            rows=rows_of(self.target),
            tenants=one_of(tenants),
            expression=self._expression,
            column=sql.Identifier(self.target.embedding.name),
            most=sql.Literal(rows),
        )
        return [
            Query(tenant=tenant, vector=vector, to_itself=distance)
            for tenant, vector, distance in connection.execute(statement)
            if not math.isnan(distance)
        ]

    def search(
        self, connection: Connection, query: Query, *, way: Way, within_tenant: bool
    ) -> list[float]:
        """The distances of the nearest rows, the nearest first."""
        with _planner(connection, way):
            found = connection.execute(self._search(query, within_tenant=within_tenant)).fetchall()
        return [distance for (distance,) in found if not math.isnan(distance)]

    def uses_index(
        self, connection: Connection, query: Query, *, way: Way, within_tenant: bool
    ) -> bool:
        """Whether PostgreSQL answers such a search by the ordered scan of an index."""
        statement = sql.SQL("EXPLAIN (FORMAT JSON) {}").format(
            self._search(query, within_tenant=within_tenant)
        )
        with _planner(connection, way):
            row = connection.execute(statement).fetchone()
        return row is not None and any(
            "Index Scan" in node.get("Node Type", "") and "Order By" in node
            for node in _nodes(row[0][0]["Plan"])
        )

    def _search(self, query: Query, *, within_tenant: bool) -> sql.Composed:
        declared, store = self.target.declared, self.target.store
        kind = sql.Identifier(
            *filter(None, (self.target.server.vector_schema,)),
            self.index.operator_class.partition("_")[0],
        )
        conditions: list[sql.Composable] = []
        if store is None and declared.where is not None:
            conditions.append(embed_sql(declared.where))
        if within_tenant and declared.tenant is not None:
            # Not cast to text, so that an index on the tenant's column can be used.
            tenant = embed_sql(declared.tenant)
            conditions.append(
                sql.SQL("{} IS NULL").format(tenant)
                if query.tenant is None
                else sql.SQL("{} {} {}").format(tenant, self._equals, sql.Literal(query.tenant))
            )
        distance = sql.SQL("{} {} {}::{}").format(
            self._expression, self._operator, sql.Literal(query.vector), kind
        )
        return sql.SQL("SELECT {d} FROM {table} WHERE {where} ORDER BY {d} LIMIT {most}").format(
            d=distance,
            table=self.target.identifier
            if store is None
            else sql.SQL("{} AS {}").format(held_rows(store), STORE),
            where=sql.SQL(" AND ").join(conditions or [sql.SQL("true")]),
            most=sql.Literal(NEAREST),
        )

    @property
    def _expression(self) -> sql.Composable:
        if self.index.expression is not None:
            return embed_sql(self.index.expression)
        return sql.Identifier(self.target.embedding.name)

    @property
    def _equals(self) -> sql.Composable:
        """As the type of the tenant's own column is compared."""
        columns = self.target.facts.columns
        column = columns.get(plain_column(self.target.declared.tenant, columns) or "")
        return sql.SQL("OPERATOR(pg_catalog.=)") if column is None else column.operator("=")

    @property
    def _operator(self) -> sql.Composable:
        schema = self.target.server.vector_schema
        symbol = sql.SQL(OPERATORS[self.target.declared.metric])
        if schema is None:
            return symbol
        return sql.SQL("OPERATOR({}.{})").format(sql.Identifier(schema), symbol)


def searcher_of(connection: Connection, target: Target) -> Searcher | None:
    """How a table is searched, or None where no valid index fits its metric and column."""
    holders = read_indexed_relations(connection, [target.holder.oid])[target.holder.oid]
    suffix = SUFFIXES[target.declared.metric]
    fitting = [
        index
        for holder in holders
        for index in holder.indexes
        if index.valid
        and index.operator_class.endswith(suffix)
        and (index.expression is not None or index.column == target.embedding.name)
    ]
    # Most searches go through an index that holds every row and is on the bare column.
    fitting.sort(key=lambda index: (index.predicate is not None, index.expression is not None))
    return Searcher(target=target, index=fitting[0]) if fitting else None


@contextmanager
def _planner(connection: Connection, way: Way) -> Iterator[None]:
    """Set what the planner may use in the block; reset it after, unless an error ends it all."""
    former = {name: _setting(connection, name) for name in _PLANNER[way]}
    _set(connection, _PLANNER[way])
    yield
    _set(connection, former)


def _setting(connection: Connection, name: str) -> str:
    row = connection.execute("SELECT pg_catalog.current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def _set(connection: Connection, settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", (name, value))


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
