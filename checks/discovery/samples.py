"""Draws bounded samples of a table, to count tenants and find JSON keys and dimensions.

Reads a small table's values whole, else at most `SAMPLE_ROWS` rows, within `SAMPLE_TIMEOUT`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import psycopg
from psycopg import sql

from checks.database.expressions import Expression, embed_sql, faults_of
from checks.database.vectors.types import EMBEDDING_TYPES
from checks.targets.provenance import LETTERS, digest_of, hash_type_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from checks.database.catalog import Column, Relation
    from checks.database.connection import Connection
    from checks.database.expressions import ExpressionType
    from checks.database.server import Server
    from checks.discovery.layouts.candidates import Candidate
    from checks.discovery.link import Link

SAMPLE_ROWS = 1000
FEW_ROWS = 100
"""Of which every element is looked at."""
SAMPLE_TIMEOUT = timedelta(seconds=5)
SMALL_ROWS = 20 * SAMPLE_ROWS
"""Rows up to which values are counted in the whole table; beyond, in blocks from all over it."""

SPARE = 3
"""Times as many rows are picked as are kept, since the row count is an estimate."""

Extent: TypeAlias = Literal["all", "the first", "scattered"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Values:
    """Counts of rows that were read, of those with a value, and of the different values."""

    rows: int
    present: int
    distinct: int
    extent: Extent
    """Which rows of the table they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableSampler:
    """Asks one table. Needs a read-only transaction with a statement timeout around it."""

    connection: Connection
    candidate: Candidate
    server: Server
    condition: sql.Composable | None = None
    """Of the rows that are read; None: all."""

    def valid(self, expression: str, kind: ExpressionType = "text") -> bool:
        """Whether the server takes the expression as one value of a row of this table."""
        asked = Expression(key="guess", source=expression, type=kind)
        try:
            return not faults_of(self.connection, self._identifier, [asked])
        except psycopg.OperationalError:
            # The table is locked: what cannot be validated is not guessed.
            if self.connection.closed:
                raise
            return False

    def values(self, expression: str, *, blank_counts: bool = True) -> Values | None:
        """What an expression gives; None where it could not be asked."""
        if self._scattered:
            return self._values(expression, SAMPLE_ROWS, blank_counts=blank_counts)
        return self._values(expression, SMALL_ROWS, blank_counts=blank_counts) or self._values(
            expression, SAMPLE_ROWS, blank_counts=blank_counts
        )

    def _values(self, expression: str, most: int, *, blank_counts: bool) -> Values | None:
        present = "value IS NOT NULL" if blank_counts else "value ~ '[^[:space:]]'"
        counted = self._ask(
            sql.SQL(
                "SELECT count(*), count(*) FILTER (WHERE {present}),"
                " pg_catalog.count(DISTINCT value) FROM ({rows}) AS sampled"
            ).format(
                present=sql.SQL(present),
                rows=self._rows(sql.SQL("{}::text AS value").format(embed_sql(expression)), most),
            )
        )
        if not counted:
            return None
        rows, present_rows, distinct = counted[0]
        extent: Extent = "scattered" if self._scattered else "all" if rows < most else "the first"
        return Values(rows=rows, present=present_rows, distinct=distinct, extent=extent)

    def most_frequent(self, expression: str) -> str | None:
        """The value that most sampled rows have; None where none has one."""
        return next(iter(self.frequent(expression, most=1)), None)

    def frequent(self, expression: str, *, most: int, least: int = 1) -> list[str]:
        """The values that most sampled rows have, each `least` of them, the most frequent first."""
        rows = self._ask(
            sql.SQL(
                "SELECT value FROM ({rows}) AS sampled WHERE value <> ''"
                " GROUP BY value HAVING count(*) >= {least}"
                " ORDER BY count(*) DESC, value LIMIT {most}"
            ).format(
                rows=self._rows(sql.SQL("{}::text AS value").format(embed_sql(expression))),
                least=sql.Literal(least),
                most=sql.Literal(most),
            )
        )
        return [str(value) for (value,) in rows or ()]

    def json_keys(self, column: Column) -> list[str]:
        """The top-level keys of a JSON column, the most frequent first."""
        own = sql.Identifier(column.name)
        rows = self._ask(
            sql.SQL(
                """SELECT key FROM ({rows}) AS sampled,
                pg_catalog.jsonb_object_keys(
                    CASE pg_catalog.jsonb_typeof(value) WHEN 'object' THEN value ELSE '{{}}' END
                ) AS key
                GROUP BY key ORDER BY count(*) DESC, key"""
            ).format(rows=self._rows(sql.SQL("{}::jsonb AS value").format(own)))
        )
        return [str(key) for (key,) in rows or ()]

    def dimension(self, column: Column) -> tuple[int, int, int] | None:
        """The most frequent dimension, its count, and the count of sampled vectors; None: none."""
        measured = EMBEDDING_TYPES[column.type].dimension(
            sql.SQL("value"), self.server.vector_schema
        )
        rows = self._ask(
            sql.SQL(
                "SELECT {measured}, count(*), sum(count(*)) OVER () FROM ({rows}) AS sampled"
                " WHERE value IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1"
            ).format(
                measured=measured,
                rows=self._rows(sql.SQL("{} AS value").format(sql.Identifier(column.name))),
            )
        )
        return (rows[0][0], rows[0][1], int(rows[0][2])) if rows else None

    def filled(self, column: Column) -> tuple[int, int, int] | None:
        """The most frequent last dimension that is not zero, its count, and the count of vectors.

        Of a few sampled ones, as each is taken apart; None where none has one.
        """
        rows = self._ask(
            sql.SQL(
                """SELECT last, count(*), sum(count(*)) OVER () FROM (
                    SELECT (
                        SELECT pg_catalog.max(n)
                        FROM pg_catalog.unnest(value) WITH ORDINALITY AS e(x, n)
                        WHERE x <> 0::real
                    ) AS last
                    FROM ({rows}) AS sampled WHERE value IS NOT NULL LIMIT {few}
                ) AS ends WHERE last IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1"""
            ).format(
                rows=self._rows(sql.SQL("{}::real[] AS value").format(sql.Identifier(column.name))),
                few=sql.Literal(FEW_ROWS),
            )
        )
        return (rows[0][0], rows[0][1], int(rows[0][2])) if rows else None

    def combinations(self, columns: Sequence[Column], *, most: int) -> list[tuple[str, ...]] | None:
        """The values that columns have together, as texts, the most frequent first.

        None where there are more than `most`, none at all, or where one is NULL.
        """
        names = [sql.Identifier(column.name) for column in columns]
        texts = sql.SQL(", ").join(sql.SQL("{}::text AS {}").format(name, name) for name in names)
        listed = sql.SQL(", ").join(names)
        found = self._ask(
            sql.SQL(
                "SELECT {listed} FROM ({rows}) AS sampled GROUP BY {listed}"
                " ORDER BY count(*) DESC, {listed} LIMIT {most}"
            ).format(listed=listed, rows=self._rows(texts, SMALL_ROWS), most=sql.Literal(most + 1))
        )
        if not found or len(found) > most or any(None in values for values in found):
            return None
        return [tuple(map(str, values)) for values in found]

    def of(self, values: Mapping[str, str]) -> TableSampler:
        """The same of the rows whose columns have these values, given as texts."""
        conditions: list[sql.Composable] = [
            sql.SQL("{}::text = {}").format(sql.Identifier(name), sql.Literal(value))
            for name, value in values.items()
        ]
        if self.condition is not None:
            conditions.append(self.condition)
        return replace(self, condition=sql.SQL(" AND ").join(conditions) if conditions else None)

    def matched(self, link: Link) -> int | None:
        """How many sampled rows name a row of the link's table; None where one in ten does not."""
        found = self._joined(link, sql.SQL("count(*), pg_catalog.count(parent.*)"))
        if found is None:
            return None
        rows, there = found
        return there if there >= 0.9 * rows else None

    def later(self, link: Link, column: Column, updated_at: Column) -> bool:
        """Whether most sampled rows have a time that is not before an edit of their owner's row."""
        found = self._joined(
            link,
            sql.SQL("count(*), count(*) FILTER (WHERE sampled.at >= parent.{})").format(
                sql.Identifier(updated_at.name)
            ),
            sql.SQL("{}::timestamptz AS at").format(sql.Identifier(column.name)),
        )
        return found is not None and found[0] > 0 and found[1] > 0.5 * found[0]

    def _joined(
        self, link: Link, counted: sql.Composable, *more: sql.Composable
    ) -> tuple[int, int] | None:
        """Two counts over sampled rows beside the rows that they name."""
        named = [
            sql.SQL("{} AS {}").format(sql.Identifier(name), sql.Identifier(f"key_{i}"))
            for i, name in enumerate(link.columns)
        ]
        found = self._ask(
            sql.SQL(
                "SELECT {counted} FROM ({rows}) AS sampled LEFT JOIN {parent} AS parent ON {same}"
            ).format(
                counted=counted,
                rows=self.of(link.constants)._rows(sql.SQL(", ").join([*named, *more])),
                parent=sql.Identifier(link.parent.schema, link.parent.name),
                same=sql.SQL(" AND ").join(
                    sql.SQL("sampled.{} = parent.{}").format(
                        sql.Identifier(f"key_{i}"), sql.Identifier(name)
                    )
                    for i, name in enumerate(link.parent_columns)
                ),
            )
        )
        return (found[0][0], found[0][1]) if found else None

    def embedded(self, column: Column, condition: str) -> tuple[int, int, bool] | None:
        """How many sampled vectors rows of a condition have, and others; whether there are such."""
        kept = sql.SQL("({}) AS kept, {} IS NOT NULL AS whole").format(
            embed_sql(condition), sql.Identifier(column.name)
        )
        found = self._ask(
            sql.SQL(
                "SELECT count(*) FILTER (WHERE kept AND whole),"
                " count(*) FILTER (WHERE NOT kept AND whole), count(*) FILTER (WHERE NOT kept) > 0"
                " FROM ({}) AS sampled"
            ).format(self._rows(kept))
        )
        return (found[0][0], found[0][1], found[0][2]) if found else None

    def content_types(self, relation: Relation) -> Mapping[str, str]:
        """What Django calls the table of each content type, by the number of the type."""
        found = self._ask(
            sql.SQL("SELECT id::text, app_label || '_' || model FROM {} LIMIT {}").format(
                sql.Identifier(relation.schema, relation.name), sql.Literal(SAMPLE_ROWS)
            )
        )
        return dict(found or ())

    def quoted(self, words: Collection[str]) -> Mapping[str, str]:
        """Names as the server quotes them."""
        return dict(
            self._ask(
                sql.SQL(
                    "SELECT n.name, pg_catalog.quote_ident(n.name)"
                    " FROM pg_catalog.unnest({}::text[]) AS n (name)"
                ).format(sql.Literal(sorted(words)))
            )
            or ()
        )

    def digest_held(self, column: Column, text: str) -> str | None:
        """The function by which some sampled row's hash is the digest of its text."""
        return next((name for name in LETTERS if self._holds(column, name, text)), None)

    def _holds(self, column: Column, function: str, text: str) -> bool:
        try:
            held = hash_type_of(column).as_text(sql.Identifier(column.name))
        except LookupError:
            return False
        # Compared in the row's own scan, so that no text is passed on.
        same = sql.SQL("{} = {} AS same").format(
            held, digest_of(function, sql.SQL("{}::text").format(embed_sql(text)), self.server)
        )
        rows = self._ask(
            sql.SQL("SELECT count(*) FROM ({rows}) AS sampled WHERE same").format(
                rows=self._rows(same)
            )
        )
        return bool(rows and rows[0][0])

    @property
    def _identifier(self) -> sql.Identifier:
        return sql.Identifier(self.candidate.relation.schema, self.candidate.relation.name)

    @property
    def _scattered(self) -> bool:
        """Whether rows are read from all over the table."""
        large = self.candidate.estimated_rows > SMALL_ROWS
        return large and self.candidate.relation.writable_kind

    def _rows(self, value: sql.Composable, most: int = SAMPLE_ROWS) -> sql.Composable:
        """A bounded number of rows; of a large table, from blocks all over it."""
        picked: sql.Composable = sql.SQL("")
        ordered: sql.Composable = sql.SQL("")
        if self._scattered:
            share = 100 * SPARE * SAMPLE_ROWS / self.candidate.estimated_rows
            # In the order of the blocks, the first of them would be all that is kept.
            picked = sql.SQL("TABLESAMPLE SYSTEM ({})").format(sql.Literal(share))
            ordered = sql.SQL("ORDER BY pg_catalog.random()")
        return sql.SQL("SELECT {} FROM {} {} WHERE {} {} LIMIT {}").format(
            value,
            self._identifier,
            picked,
            sql.SQL("true") if self.condition is None else self.condition,
            ordered,
            sql.Literal(most),
        )

    def _ask(self, statement: sql.Composed) -> Sequence[tuple[Any, ...]] | None:
        """The rows; None where the server refuses or takes too long, which is not an error here."""
        try:
            with self.connection.transaction(force_rollback=True):
                return self.connection.execute(statement).fetchall()
        except psycopg.Error:
            if self.connection.closed:
                raise
            return None
