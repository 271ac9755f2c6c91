"""Finds vectors without meaning: no direction, or a tail padded otherwise than declared.

Builds SQL only; runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.row_checks.row_check import RowCheck

if TYPE_CHECKING:
    from checks.row_checks.row_relation import RowWords
    from checks.targets.target import Target


def _no_meaning(target: Target, row: RowWords) -> sql.Composable:
    if row.norm is not None:
        return sql.SQL("{} = 0::float8").format(row.norm)
    return target.embedding_type.no_meaning(
        row.embedding,
        dimensions=target.dimensions,
        schema=target.server.vector_schema,
        filled=target.model_dimensions if target.padded else None,
    )


CHECK = RowCheck(
    name="degenerate",
    order=3,
    says="have a vector without meaning: only zeros, not a number, or padded with zeros",
    remedy="re-embed",
    reads_vectors=lambda _: True,
    predicate=_no_meaning,
)
