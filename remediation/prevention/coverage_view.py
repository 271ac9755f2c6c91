"""Builds the view `embedding_integrity`: how many rows of each table and tenant are whole.

Its numbers are those of the checks, counted by the same predicates. Builds SQL; runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.row_checks.row_relation import PENDING, columns_of, rows_of
from checks.row_checks.rules.completeness import CHECK as COMPLETENESS
from checks.row_checks.rules.freshness import CHECK as FRESHNESS
from remediation.prevention.owned_objects import OwnedObject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.server import Server
    from checks.row_checks.row_check import RowCheck
    from checks.targets.target import Target

VIEW = "embedding_integrity"
SECURITY_INVOKER_SINCE = 150000
"""PostgreSQL 15: a view that reads with the rights, and the policies, of who asks it."""


def coverage_view(schema: str) -> OwnedObject:
    return OwnedObject(
        kind="view",
        schema=schema,
        name=VIEW,
        says="rows of each table and tenant, and how many lack an embedding or have an old one",
    )


def reads_as_invoker(server: Server) -> bool:
    """Whether the view shows each role no more than its own rights and policies do."""
    return server.version_number >= SECURITY_INVOKER_SINCE


def create_view(
    targets: Sequence[Target], schema: str, server: Server
) -> tuple[sql.Composable, ...]:
    """The statements that make the view over these targets, or replace it."""
    view = coverage_view(schema)
    options = " WITH (security_invoker = true)" if reads_as_invoker(server) else ""
    return (
        sql.SQL(
            """CREATE OR REPLACE VIEW {view}{options} AS
SELECT table_name, tenant, rows, missing, pending, stale,
       pg_catalog.trunc((rows - missing)::numeric / rows::numeric, 6) AS share
FROM (
{tables}
) AS counted"""
        ).format(
            view=view.identifier,
            options=sql.SQL(options),
            tables=sql.SQL("\nUNION ALL\n").join(map(_counts, targets)),
        ),
        view.comment,
    )


def _counts(target: Target) -> sql.Composed:
    """A row per tenant. `stale` is NULL where nothing that is declared tells of an edit."""
    return sql.SQL(
        """SELECT {name}::text AS table_name, tenant::text AS tenant, count(*) AS rows,
       count(*) FILTER (WHERE {missing}) AS missing,
       count(*) FILTER (WHERE {pending}) AS pending,
       {stale}::bigint AS stale
FROM {rows} AS r
GROUP BY tenant"""
    ).format(
        name=sql.Literal(target.name),
        missing=_predicate(COMPLETENESS, target),
        pending=PENDING,
        stale=sql.SQL("count(*) FILTER (WHERE {})").format(_predicate(FRESHNESS, target))
        if FRESHNESS.applies(target.declared) and FRESHNESS.meaningful(target)
        else sql.SQL("NULL"),
        rows=rows_of(target),
    )


def _predicate(check: RowCheck, target: Target) -> sql.Composable:
    assert check.predicate is not None
    return check.predicate(target, columns_of(target))
