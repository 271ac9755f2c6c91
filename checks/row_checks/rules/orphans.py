"""Finds rows whose source row is gone. Builds SQL only; runs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checks.row_checks.row_check import RowCheck

if TYPE_CHECKING:
    from psycopg import sql

    from checks.row_checks.row_relation import RowWords
    from checks.targets.target import Target


def _orphaned(_: Target, row: RowWords) -> sql.Composable:
    if row.orphaned is None:
        raise LookupError("orphans applies only where a source is declared")
    return row.orphaned


CHECK = RowCheck(
    name="orphans",
    order=7,
    says="name a source row that is gone, or none",
    remedy="report",
    predicate=_orphaned,
    applies=lambda declared: declared.source is not None,
)
