"""Writes the statement by which a person sees the failing rows of a segment; runs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.expressions import embed_sql
from checks.row_checks.row_expressions import changed_by_columns, scope_of, tenant_of, text_of
from checks.row_checks.row_relation import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from checks.row_checks.row_check import AppliedCheck
    from checks.targets.target import Target


def failing_rows_sql(target: Target, check: AppliedCheck, *tenants: str | None) -> str:
    """A statement a person can run in psql to see the failing rows of tenants, by default of all.

    Flat, over the table's own columns; beside a store, over those of `rows_of`. It states the
    conditions that the scan counts by.
    """
    if target.store is not None:
        return _failing_beside_store(target, check, tenants)
    declared = target.declared
    columns: list[sql.Composable] = [sql.Identifier(column.name) for column in target.key]
    conditions: list[sql.Composable] = []
    if declared.tenant is not None:
        columns.append(sql.SQL("{} AS tenant").format(embed_sql(declared.tenant)))
        conditions += _among(tenant_of(target), tenants)
    if declared.created_at is not None:
        columns.append(sql.SQL("{} AS created_at").format(embed_sql(declared.created_at)))
    if not target.key:
        columns.append(sql.SQL("left({}, 80) AS text").format(text_of(target)))
    if declared.where is not None or target.evaluated is not None:
        conditions.append(scope_of(target))
    if target.changed_since is not None:
        conditions.append(changed_by_columns(target))
    conditions.append(sql.SQL("({})").format(check.shown))
    statement = sql.SQL("SELECT {columns}\nFROM {table}\nWHERE {conditions};").format(
        columns=sql.SQL(", ").join(columns),
        table=target.identifier,
        conditions=sql.SQL("\n  AND ").join(conditions),
    )
    return statement.as_string(None)


def _failing_beside_store(
    target: Target, check: AppliedCheck, tenants: Sequence[str | None]
) -> str:
    columns: list[sql.Composable] = [
        sql.SQL("{} AS {}").format(sql.Identifier(f"key_{position}"), sql.Identifier(column.name))
        for position, column in enumerate(target.key, start=1)
    ]
    conditions: list[sql.Composable] = [sql.SQL("({})").format(check.shown)]
    if target.declared.tenant is not None:
        columns.append(sql.SQL("tenant"))
        conditions[:0] = _among(sql.SQL("tenant"), tenants)
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


def _among(expression: sql.Composable, tenants: Sequence[str | None]) -> Iterator[sql.Composable]:
    """The condition of a row of these tenants; none for all."""
    if not tenants:
        return
    if len(tenants) == 1 and tenants[0] is not None:
        yield sql.SQL("{} = {}").format(expression, sql.Literal(tenants[0]))
        return
    parts = []
    if named := [sql.Literal(tenant) for tenant in tenants if tenant is not None]:
        parts.append(sql.SQL("{} IN ({})").format(expression, sql.SQL(", ").join(named)))
    if None in tenants:
        parts.append(sql.SQL("{} IS NULL").format(expression))
    joined = sql.SQL(" OR ").join(parts)
    yield joined if len(parts) == 1 else sql.SQL("({})").format(joined)
