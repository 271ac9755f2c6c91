"""Reads nearest-neighbour indexes from the catalog: which there are, and what each is on.

Reads the catalog only, and locks no table; judges nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.catalog import Column
    from checks.database.connection import Connection


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnIndex:
    """An hnsw or ivfflat index. `column` is its column, None where it is on an expression."""

    schema: str
    name: str
    method: str
    valid: bool
    building: bool
    """Whether a session is building it now, as far as the role may see."""
    operator_class: str
    column: str | None
    expression: str | None
    predicate: str | None
    """The index's condition as the server prints it; None where the index is on every row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedRelation:
    """A relation that holds rows itself: a table, a partition, never a partitioned table."""

    schema: str
    name: str
    kind: str
    estimated_rows: int
    indexes: tuple[AnnIndex, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexKey:
    """What an index is on: the embedding column, of this type and dimension after any cast."""

    type: str
    dimension: int | None


_CAST = re.compile(
    r'\(*(?P<column>"(?:[^"]|"")+"|[^\s():"]+)\)*::'
    r'(?:(?:"(?:[^"]|"")+"|[^\s():."]+)\.)?'
    r"(?P<type>vector|halfvec|sparsevec)\((?P<dimension>\d+)\)\)*"
)
"""A column cast to a type of pgvector with a dimension, as the server prints it."""

_RELATIONS = """
WITH RECURSIVE tree (root, relation) AS (
    SELECT r.oid, r.oid FROM pg_catalog.unnest(%(oids)s::oid[]) AS r (oid)
    UNION ALL
    SELECT tree.root, i.inhrelid
    FROM tree
    JOIN pg_catalog.pg_inherits AS i ON i.inhparent = tree.relation
    JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid AND c.relispartition
)
SELECT tree.root::bigint, c.oid::bigint, n.nspname, c.relname, c.relkind::text,
       greatest(c.reltuples, 0)::bigint
FROM tree
JOIN pg_catalog.pg_class AS c ON c.oid = tree.relation
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind <> 'p'
ORDER BY n.nspname, c.relname
"""

_INDEXES = """
SELECT i.indrelid::bigint, n.nspname, c.relname, m.amname, i.indisvalid,
       EXISTS (
           SELECT FROM pg_catalog.pg_stat_progress_create_index AS p
           WHERE p.index_relid = i.indexrelid
       ),
       o.opcname, a.attname,
       CASE WHEN i.indkey[0] = 0 THEN pg_catalog.pg_get_indexdef(i.indexrelid, 1, true) END,
       pg_catalog.pg_get_expr(i.indpred, i.indrelid, true)
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_am AS m ON m.oid = c.relam
JOIN pg_catalog.pg_opclass AS o ON o.oid = i.indclass[0]
LEFT JOIN pg_catalog.pg_attribute AS a
       ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] AND a.attnum > 0
WHERE i.indrelid = ANY(%(oids)s::oid[]) AND m.amname IN ('hnsw', 'ivfflat')
ORDER BY n.nspname, c.relname
"""


def read_indexed_relations(
    connection: Connection, oids: Sequence[int]
) -> dict[int, tuple[IndexedRelation, ...]]:
    """The relations that hold the rows of each given one, by its oid: itself, or its partitions.

    Runs two statements, however many relations there are.
    """
    found = connection.execute(_RELATIONS, {"oids": list(oids)}).fetchall()
    indexes: dict[int, list[AnnIndex]] = {oid: [] for _, oid, *_ in found}
    for row in connection.execute(_INDEXES, {"oids": list(indexes)}):
        oid, schema, name, method, valid, building, operator_class, column, expression, where = row
        indexes[oid].append(
            AnnIndex(
                schema=schema,
                name=name,
                method=method,
                valid=valid,
                building=building,
                operator_class=operator_class,
                column=column,
                expression=expression,
                predicate=where,
            )
        )
    relations: dict[int, list[IndexedRelation]] = {oid: [] for oid in oids}
    for root, oid, schema, name, kind, estimated_rows in found:
        relations[root].append(
            IndexedRelation(
                schema=schema,
                name=name,
                kind=kind,
                estimated_rows=estimated_rows,
                indexes=tuple(indexes[oid]),
            )
        )
    return {oid: tuple(holders) for oid, holders in relations.items()}


def key_of(index: AnnIndex, column: Column) -> IndexKey | None:
    """The key of an index on the embedding column as a whole; None for any other index."""
    if index.column is not None:
        same = index.column == column.name
        return IndexKey(type=column.type, dimension=column.dimension) if same else None
    found = _CAST.fullmatch(index.expression or "")
    if found is None or _unquoted(found["column"]) != column.name:
        return None
    return IndexKey(type=found["type"], dimension=int(found["dimension"]))


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
