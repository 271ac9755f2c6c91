"""Finds vectors of another dimension than declared, without reading them where it can.

Builds SQL only; runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.row_checks.row_check import RowCheck
from checks.row_checks.row_expressions import other_dimension_of, size_tells_dimension

if TYPE_CHECKING:
    from checks.row_checks.row_relation import RowWords
    from checks.targets.target import Target


def _other_dimension(target: Target, row: RowWords) -> sql.Composable:
    present = sql.SQL("{} IS NOT NULL").format(row.embedding)
    if target.embedding.dimension is not None:
        # The type admits one dimension; `schema` reports that it is not the declared one.
        return present
    differs = other_dimension_of(target, row.embedding, for_people=row.for_people)
    return sql.SQL("{} AND {}").format(present, differs)


def _dimension(target: Target, row: RowWords) -> sql.Composable:
    dimension = target.embedding_type.dimension(row.embedding, target.server.vector_schema)
    return sql.SQL("({})::text").format(dimension)


def _dimension_is_declared(target: Target) -> str | None:
    column = target.embedding
    if column.dimension == target.dimensions:
        return f"the column is {column.type}({column.dimension}), which holds no other dimension"
    return None


CHECK = RowCheck(
    name="dimensionality",
    order=2,
    says="have a vector of another dimension than declared",
    remedy="re-embed",
    predicate=_other_dimension,
    found=_dimension,
    reads_vectors=lambda target: not size_tells_dimension(target),
    proven=_dimension_is_declared,
)
