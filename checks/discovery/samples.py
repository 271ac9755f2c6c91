"""Draws bounded samples of a table, to count tenants and find JSON keys and dimensions.

Never reads a whole table: at most `SAMPLE_ROWS` rows, within `SAMPLE_TIMEOUT`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from checks.database.expressions import Expression, embed_sql, faults_of
from checks.database.vector_types import EMBEDDING_TYPES
from checks.targets.provenance import LETTERS, digest_of, hash_type_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.catalog import Column
    from checks.database.connection import Connection
    from checks.database.expressions import ExpressionType
    from checks.database.server import Server
    from checks.discovery.candidates import Candidate

SAMPLE_ROWS = 1000
FEW_ROWS = 100
"""Of which every element is looked at."""
SAMPLE_TIMEOUT = timedelta(seconds=5)
LARGE = 20
"""Samples' worth of rows from which blocks are picked at random rather than from the start."""

SPARE = 3
"""Times as many rows are picked as are read, since the row count is an estimate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Values:
    """Counts of the sampled rows, of those with a value, and of the different values."""

    rows: int
    present: int
    distinct: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TableSampler:
    """Asks one table. Needs a read-only transaction with a statement timeout around it."""

    connection: Connection
    candidate: Candidate
    server: Server

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
        present = "value IS NOT NULL" if blank_counts else "value ~ '[^[:space:]]'"
        rows = self._ask(
            sql.SQL(
                "SELECT count(*), count(*) FILTER (WHERE {present}),"
                " pg_catalog.count(DISTINCT value) FROM ({rows}) AS sampled"
            ).format(
                present=sql.SQL(present),
                rows=self._rows(sql.SQL("{}::text AS value").format(embed_sql(expression))),
            )
        )
        return (
            None if not rows else Values(rows=rows[0][0], present=rows[0][1], distinct=rows[0][2])
        )

    def most_frequent(self, expression: str) -> str | None:
        """The value that most sampled rows have; None where none has one."""
        rows = self._ask(
            sql.SQL(
                "SELECT value FROM ({rows}) AS sampled WHERE value <> ''"
                " GROUP BY value ORDER BY count(*) DESC, value LIMIT 1"
            ).format(rows=self._rows(sql.SQL("{}::text AS value").format(embed_sql(expression))))
        )
        return str(rows[0][0]) if rows else None

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

    def _rows(self, value: sql.Composable) -> sql.Composable:
        """A bounded number of rows; of a large table, from blocks all over it."""
        picked: sql.Composable = sql.SQL("")
        estimated = self.candidate.estimated_rows
        if estimated > LARGE * SAMPLE_ROWS and self.candidate.relation.writable_kind:
            share = 100 * SPARE * SAMPLE_ROWS / estimated
            picked = sql.SQL("TABLESAMPLE SYSTEM ({})").format(sql.Literal(share))
        return sql.SQL("SELECT {} FROM {} {} LIMIT {}").format(
            value, self._identifier, picked, sql.Literal(SAMPLE_ROWS)
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
