"""Writes the statement by which a person sees the failing rows of a segment; runs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.expressions import embed_sql
from checks.row_checks.row_expressions import changed_by_columns, scope_of, tenant_of, text_of
from checks.row_checks.row_relation import rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.row_checks.row_check import AppliedCheck
    from checks.targets.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class FailingRows:
    """A statement that a person can run in psql to see the rows that fail a check.

    Composed once, as a table may have ten thousand failing segments. It states the conditions that
    the scan counts by.
    """

    select: str
    tenant: str | None
    """SQL of a row's tenant; None where the table has none."""
    conditions: str

    def of(self, *tenants: str | None) -> str:
        """The statement about the rows of tenants, by default of all."""
        conditions = self.conditions
        if tenants and self.tenant is not None:
            conditions = f"{_among(self.tenant, tenants)}\n  AND {conditions}"
        return f"{self.select}\nWHERE {conditions};"


def failing_rows(target: Target, check: AppliedCheck) -> FailingRows:
    """The statement: flat, over the table's own columns; beside a store, over `rows_of`'s."""
    beside_store = target.store is not None
    return _failing_beside_store(target, check) if beside_store else _failing(target, check)


def _failing(target: Target, check: AppliedCheck) -> FailingRows:
    declared = target.declared
    columns: list[sql.Composable] = [sql.Identifier(column.name) for column in target.key]
    conditions: list[sql.Composable] = []
    if declared.tenant is not None:
        columns.append(sql.SQL("{} AS tenant").format(embed_sql(declared.tenant)))
    if declared.created_at is not None:
        columns.append(sql.SQL("{} AS created_at").format(embed_sql(declared.created_at)))
    if not target.key:
        columns.append(sql.SQL("left({}, 80) AS text").format(text_of(target)))
    if declared.where is not None or target.evaluated is not None:
        conditions.append(scope_of(target))
    if target.changed_since is not None:
        conditions.append(changed_by_columns(target))
    conditions.append(sql.SQL("({})").format(check.shown))
    select = sql.SQL("SELECT {columns}\nFROM {table}").format(
        columns=sql.SQL(", ").join(columns), table=target.identifier
    )
    return FailingRows(
        select=select.as_string(None),
        tenant=None if declared.tenant is None else tenant_of(target).as_string(None),
        conditions=sql.SQL("\n  AND ").join(conditions).as_string(None),
    )


def _failing_beside_store(target: Target, check: AppliedCheck) -> FailingRows:
    declared = target.declared
    columns: list[sql.Composable] = [
        sql.SQL("{} AS {}").format(sql.Identifier(f"key_{position}"), sql.Identifier(column.name))
        for position, column in enumerate(target.key, start=1)
    ]
    columns += [sql.SQL("tenant")] if declared.tenant is not None else []
    columns += [sql.SQL("created_at")] if declared.created_at is not None else []
    if target.repeats and target.text_is_known:
        columns.append(sql.SQL("left(text, 80) AS text"))
    select = sql.SQL("SELECT {columns}\nFROM {rows} AS r").format(
        columns=sql.SQL(", ").join(columns), rows=rows_of(target)
    )
    return FailingRows(
        select=select.as_string(None),
        tenant=None if declared.tenant is None else "tenant",
        conditions=sql.SQL("({})").format(check.shown).as_string(None),
    )


def _among(expression: str, tenants: Sequence[str | None]) -> str:
    """The condition of a row of these tenants."""
    named = [sql.Literal(tenant).as_string(None) for tenant in tenants if tenant is not None]
    if len(tenants) == 1 and named:
        return f"{expression} = {named[0]}"
    parts = [f"{expression} IN ({', '.join(named)})"] if named else []
    parts += [f"{expression} IS NULL"] if None in tenants else []
    return parts[0] if len(parts) == 1 else f"({' OR '.join(parts)})"
