"""Builds the CREATE INDEX that a declared index asks for: type, operator class, parameters.

Builds statements for a person to run; runs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from checks.database.vectors.ann_indexes import IndexedRelation
    from checks.settings.tables import IndexMethod, Metric
    from checks.targets.target import Target

MOST_DIMENSIONS = {"vector": 2_000, "halfvec": 4_000}
"""The most that an index holds, by pgvector's README; a sparsevec is limited otherwise."""

HALFVEC_SINCE = (0, 7)
"""The version of pgvector that brought halfvec and sparsevec."""

SUFFIXES = {"cosine": "cosine", "l2": "l2", "inner_product": "ip"}

ROWS_PER_LIST = 1_000
MANY_ROWS = 1_000_000
"""pgvector's README: start with rows / 1,000 lists up to a million rows, then with the root."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedKey:
    """What a sound index covers: the column, or the column cast to a type that can be indexed."""

    type: str
    dimension: int
    cast: bool


def operator_class(type_name: str, metric: Metric) -> str:
    """The operator class of a type for a metric, without its schema."""
    return f"{type_name}_{SUFFIXES[metric]}_ops"


def expected_key(target: Target) -> ExpectedKey | None:
    """What to index; None where no index of pgvector can hold such vectors."""
    column = target.embedding
    dimension = column.dimension or target.dimensions
    type_name = column.type if target.embedding_type.from_extension else "vector"
    if type_name == "sparsevec":
        fits = target.declared.index == "hnsw"
    else:
        if dimension > MOST_DIMENSIONS[type_name] and _knows_halfvec(target):
            type_name = "halfvec"
        fits = dimension <= MOST_DIMENSIONS[type_name]
    if not fits:
        return None
    cast = (type_name, dimension) != (column.type, column.dimension)
    return ExpectedKey(type=type_name, dimension=dimension, cast=cast)


def no_key(target: Target) -> str:
    """Why `expected_key` is None, and what can be done instead."""
    column, method = target.embedding, target.declared.index
    if column.type == "sparsevec":
        return f"{method} takes no sparsevec; declare and build hnsw"
    dimension = column.dimension or target.dimensions
    most, half = MOST_DIMENSIONS["vector"], MOST_DIMENSIONS["halfvec"]
    if not _knows_halfvec(target) and dimension <= half:
        return (
            f"pgvector {target.server.vector_version} indexes at most {most:,} dimensions, these"
            f" are {dimension:,}; 0.7 and newer index up to {half:,} as halfvec: upgrade it"
        )
    return (
        f"pgvector indexes at most {most:,} dimensions, or {half:,} as halfvec, these are"
        f" {dimension:,}; take `index` out of the settings"
    )


def create_statement(
    target: Target, relation: IndexedRelation, method: IndexMethod, key: ExpectedKey
) -> str:
    """The CREATE INDEX CONCURRENTLY, ready to paste into psql."""
    on: sql.Composable = sql.Identifier(target.embedding.name)
    if key.cast:
        on = sql.SQL("({}::{}({}))").format(
            on, _of_extension(target, key.type), sql.Literal(key.dimension)
        )
    lists: sql.Composable = sql.SQL("")
    if method == "ivfflat":
        lists = sql.SQL(" WITH (lists = {})").format(_lists(relation.estimated_rows))
    return (
        sql.SQL("CREATE INDEX CONCURRENTLY ON {} USING {} ({} {}){};")
        .format(
            sql.Identifier(relation.schema, relation.name),
            sql.SQL(method),
            on,
            _of_extension(target, operator_class(key.type, target.declared.metric)),
            lists,
        )
        .as_string(None)
    )


def _lists(rows: int) -> sql.Literal:
    lists = rows // ROWS_PER_LIST if rows <= MANY_ROWS else math.isqrt(rows)
    return sql.Literal(max(lists, 1))


def _of_extension(target: Target, name: str) -> sql.Identifier | sql.SQL:
    """A name of the extension, qualified where a session might not find it by itself."""
    schema = target.server.vector_schema
    if schema in (None, "public"):
        return sql.SQL(name)
    return sql.Identifier(schema, name)


def _knows_halfvec(target: Target) -> bool:
    version = target.server.vector_version
    if version is None:
        return False
    major, minor, *_ = (int(part) for part in version.split(".")[:2])
    return (major, minor) >= HALFVEC_SINCE
