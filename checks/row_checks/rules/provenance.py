"""Finds vectors that are not tagged with the declared model. Builds SQL only; runs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.row_checks.row_check import RowCheck
from checks.row_checks.row_expressions import declared_model_of

if TYPE_CHECKING:
    from checks.row_checks.row_relation import RowWords
    from checks.targets.target import Target


def _other_model(target: Target, row: RowWords) -> sql.Composable:
    return sql.SQL("{} IS NOT NULL AND {} IS DISTINCT FROM {}").format(
        row.embedding, row.model, declared_model_of(target, row.tenant)
    )


def _model(_target: Target, row: RowWords) -> sql.Composable:
    assert row.model is not None
    return sql.SQL("coalesce({}, 'NULL')").format(row.model)


CHECK = RowCheck(
    name="provenance",
    order=5,
    says="have a vector that is not tagged with the declared model",
    remedy="re-embed",
    predicate=_other_model,
    found=_model,
    applies=lambda declared: declared.declares("model_column"),
)
