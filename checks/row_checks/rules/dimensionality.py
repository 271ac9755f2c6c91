"""Finds vectors of another dimension than declared, without reading them where it can.

Builds SQL only; runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.vector_types import VARIABLE_HEADER
from checks.row_checks.row_check import RowCheck

if TYPE_CHECKING:
    from checks.row_checks.row_relation import RowWords
    from checks.targets.target import Target

CHUNK_ID_SINCE = 170000
"""pg_column_toast_chunk_id() came with PostgreSQL 17."""


def _other_dimension(target: Target, row: RowWords) -> sql.Composable:
    """The dimension differs from the declared one; read from the vector only where size is silent.

    The size of a value stored out of line and not compressed is 4 + element bytes * dimensions
    (measured: 6,148 bytes for vector(1536)), and telling it does not read the value.
    """
    kind = target.embedding_type
    present = sql.SQL("{} IS NOT NULL").format(row.embedding)
    if target.embedding.dimension is not None:
        # The type admits one dimension; `schema` has said that it is not the declared one.
        return present
    differs = sql.SQL("{} <> {}").format(
        kind.dimension(row.embedding, target.server.vector_schema), sql.Literal(target.dimensions)
    )
    old = target.server.version_number < CHUNK_ID_SINCE
    if kind.element_bytes is None or old or row.for_people:
        return sql.SQL("{} AND {}").format(present, differs)
    return sql.SQL(
        """{present} AND CASE
        WHEN pg_catalog.pg_column_toast_chunk_id({embedding}) IS NOT NULL
         AND pg_catalog.pg_column_compression({embedding}) IS NULL
        THEN pg_catalog.pg_column_size({embedding}) <> {size}
        ELSE {differs}
    END"""
    ).format(
        present=present,
        embedding=row.embedding,
        size=sql.Literal(VARIABLE_HEADER + kind.element_bytes * target.dimensions),
        differs=differs,
    )


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
    proven=_dimension_is_declared,
)
