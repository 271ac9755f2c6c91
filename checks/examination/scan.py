"""Scans a table once: every row check counted for every tenant in one statement.

Runs inside the caller's read-only transaction and decides nothing about pass or fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from checks.database.expressions import embed_sql
from checks.examination.gaps import count_gaps
from checks.examination.measurements import Measurement, Segment
from checks.row_checks.row_check import with_sets
from checks.row_checks.row_expressions import tenant_of, text_of
from checks.row_checks.row_relation import rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.connection import Connection
    from checks.examination.gaps import Gap
    from checks.row_checks.row_check import AppliedCheck
    from checks.targets.target import Target


_DATABLE = sql.SQL("created_at BETWEEN '0001-01-02 00:00+00' AND '9999-12-30 00:00+00'")
"""What Python's datetime can hold; PostgreSQL also knows -infinity and years before Christ."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """A measurement per segment, and the number of segments as the server counted them."""

    measurements: tuple[Measurement, ...]
    segments_seen: int
    gaps: tuple[Gap, ...] = ()
    """What stands alone beside the table; not looked at where only some tenants are selected."""


def compile_scan(
    target: Target, checks: Sequence[AppliedCheck], *, tenants: Sequence[str] | None = None
) -> sql.Composed:
    """One GROUP BY tenant with `count(*) FILTER (WHERE predicate)` for each check.

    Result: a row per tenant: how many segments the server counts, tenant, rows, not embeddable,
    pending, then for each check the failing count and the first and last creation time of its
    failing rows.
    """
    # Without a creation time there is nothing to aggregate, and a predicate may be dear.
    period = (
        "NULL, NULL"
        if target.declared.created_at is None
        else "min(created_at) FILTER (WHERE ({predicate}) AND {datable}),\n"
        "       max(created_at) FILTER (WHERE ({predicate}) AND {datable})"
    )
    counts: list[sql.Composable] = [
        sql.SQL("count(*) FILTER (WHERE {predicate}),\n       " + period).format(
            predicate=check.predicate, datable=_DATABLE
        )
        for check in checks
    ]
    return sql.SQL(
        """
{sets}SELECT count(*) OVER (),
       tenant,
       count(*),
       count(*) FILTER (WHERE embedding IS NULL AND NOT embeddable),
       count(*) FILTER (WHERE embedding IS NULL AND embeddable AND pending),
       {counts}
FROM {rows} AS r
WHERE {tenants}
GROUP BY tenant
ORDER BY tenant NULLS LAST
"""
    ).format(
        sets=with_sets(checks),
        counts=sql.SQL(",\n       ").join(counts or [sql.SQL("NULL")]),
        rows=rows_of(target),
        tenants=among(tenants),
    )


def among(tenants: Sequence[str] | None) -> sql.Composable:
    """The condition that restricts rows to the selected tenants."""
    if tenants is None:
        return sql.SQL("true")
    return sql.SQL("tenant = ANY({})").format(sql.Literal(list(tenants)))


def scan(
    connection: Connection,
    target: Target,
    checks: Sequence[AppliedCheck],
    *,
    tenants: Sequence[str] | None = None,
) -> Scan:
    """Measure every segment of a target. Raises psycopg's errors."""
    rows = connection.execute(compile_scan(target, checks, tenants=tenants)).fetchall()
    gaps = count_gaps(connection, target) if tenants is None else ()
    return Scan(
        measurements=tuple(_measurement(target, checks, row[1:]) for row in rows),
        segments_seen=rows[0][0] if rows else 0,
        gaps=gaps,
    )


def _measurement(
    target: Target, checks: Sequence[AppliedCheck], row: tuple[Any, ...]
) -> Measurement:
    tenant, total, not_embeddable, pending, *counts = row
    names = [check.name for check in checks]
    return Measurement(
        segment=Segment(table=target.name, tenant=tenant),
        rows=total,
        not_embeddable=not_embeddable,
        pending=pending,
        failing=dict(zip(names, counts[0::3], strict=False)),
        first=dict(zip(names, counts[1::3], strict=False)),
        last=dict(zip(names, counts[2::3], strict=False)),
    )


def failing_rows_sql(target: Target, check: AppliedCheck, tenant: str | None) -> str:
    """A statement a person can run in psql to see a segment's failing rows.

    Flat, over the table's own columns; beside a store, over those of `rows_of`. It states the
    conditions that the scan counts by.
    """
    if target.store is not None:
        return _failing_beside_store(target, check, tenant)
    declared = target.declared
    columns: list[sql.Composable] = [sql.Identifier(column.name) for column in target.key]
    conditions: list[sql.Composable] = []
    if declared.tenant is not None:
        columns.append(sql.SQL("{} AS tenant").format(embed_sql(declared.tenant)))
        conditions.append(_is_tenant(tenant_of(target), tenant))
    if declared.created_at is not None:
        columns.append(sql.SQL("{} AS created_at").format(embed_sql(declared.created_at)))
    if not target.key:
        columns.append(sql.SQL("left({}, 80) AS text").format(text_of(target)))
    if declared.where is not None:
        conditions.append(embed_sql(declared.where))
    conditions.append(sql.SQL("({})").format(check.shown))
    statement = sql.SQL("SELECT {columns}\nFROM {table}\nWHERE {conditions};").format(
        columns=sql.SQL(", ").join(columns),
        table=target.identifier,
        conditions=sql.SQL("\n  AND ").join(conditions),
    )
    return statement.as_string(None)


def _failing_beside_store(target: Target, check: AppliedCheck, tenant: str | None) -> str:
    columns: list[sql.Composable] = [
        sql.SQL("{} AS {}").format(sql.Identifier(f"key_{position}"), sql.Identifier(column.name))
        for position, column in enumerate(target.key, start=1)
    ]
    conditions: list[sql.Composable] = [sql.SQL("({})").format(check.shown)]
    if target.declared.tenant is not None:
        columns.append(sql.SQL("tenant"))
        conditions.insert(0, _is_tenant(sql.SQL("tenant"), tenant))
    if target.declared.created_at is not None:
        columns.append(sql.SQL("created_at"))
    if target.repeats and target.text_is_known:
        columns.append(sql.SQL("left(text, 80) AS text"))
    statement = sql.SQL("SELECT {columns}\nFROM {rows} AS r\nWHERE {conditions};").format(
        columns=sql.SQL(", ").join(columns),
        rows=rows_of(target),
        conditions=sql.SQL("\n  AND ").join(conditions),
    )
    return statement.as_string(None)


def _is_tenant(expression: sql.Composable, tenant: str | None) -> sql.Composable:
    if tenant is None:
        return sql.SQL("{} IS NULL").format(expression)
    return sql.SQL("{} = {}").format(expression, sql.Literal(tenant))
