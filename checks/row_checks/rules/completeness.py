"""Finds rows that ought to have an embedding and have none. Builds SQL only; runs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.row_checks.row_check import RowCheck

if TYPE_CHECKING:
    from checks.row_checks.row_relation import RowWords
    from checks.targets.target import Target


def _no_embedding(_: Target, row: RowWords) -> sql.Composable:
    missing = sql.SQL("{} IS NULL").format(row.embedding)
    return sql.SQL(" AND ").join([missing, row.embeddable, *row.past_grace])


CHECK = RowCheck(
    name="completeness",
    order=1,
    says="have text but no embedding",
    remedy="re-embed",
    predicate=_no_embedding,
    of_missing=True,
)
