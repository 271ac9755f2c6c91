"""Finds the tables that hold embeddings, with all that the catalog says about them.

Reads the catalog only, in a few statements however many tables there are; guesses nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from checks.database.catalog import TYPES_BELOW, read_relation_names, read_relations
from checks.database.vectors.ann_indexes import read_indexed_relations
from checks.settings.names import display_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from checks.database.catalog import Column, Relation, RelationName
    from checks.database.connection import Connection
    from checks.database.vectors.ann_indexes import AnnIndex


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignKey:
    """A foreign key of a table. Its columns match the parent's in order."""

    columns: tuple[str, ...]
    parent: Relation
    parent_columns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A relation with at least one embedding column."""

    relation: Relation
    embeddings: tuple[Column, ...]
    foreign_keys: tuple[ForeignKey, ...]
    indexes: tuple[AnnIndex, ...]
    """The ANN indexes on the relation or its partitions."""
    estimated_rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """The candidates, every relation's name, and how the server quotes each name."""

    candidates: tuple[Candidate, ...]
    names: tuple[RelationName, ...]
    neighbours: Mapping[tuple[str, str], Relation]
    """Relations that a candidate is named after, by schema and name."""
    quoted: Mapping[str, str]
    foreign_views: tuple[tuple[str, str], ...]
    """Names and owners of views that are no candidates: what they call would run as us."""


_EMBEDDING_COLUMNS = (
    TYPES_BELOW
    + """
SELECT a.attrelid::bigint, a.attname
FROM pg_catalog.pg_attribute AS a
LEFT JOIN type_below AS b ON b.oid = a.atttypid
JOIN pg_catalog.pg_type AS t ON t.oid = coalesce(b.below, a.atttypid)
WHERE a.attrelid = ANY(%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
  AND (t.typname IN ('vector', 'halfvec', 'sparsevec')
       OR (t.typname IN ('_float4', '_float8')
           AND a.attname::text ~* 'embed|(^|_)(emb|vec)|vector'))
ORDER BY a.attrelid, a.attnum
"""
)

_FOREIGN_KEYS = """
SELECT c.conrelid::bigint, c.confrelid::bigint,
       ARRAY(
           SELECT a.attname::text
           FROM pg_catalog.unnest(c.conkey) WITH ORDINALITY AS k (attnum, position)
           JOIN pg_catalog.pg_attribute AS a
             ON a.attrelid = c.conrelid AND a.attnum = k.attnum
           ORDER BY k.position
       ),
       ARRAY(
           SELECT a.attname::text
           FROM pg_catalog.unnest(c.confkey) WITH ORDINALITY AS k (attnum, position)
           JOIN pg_catalog.pg_attribute AS a
             ON a.attrelid = c.confrelid AND a.attnum = k.attnum
           ORDER BY k.position
       )
FROM pg_catalog.pg_constraint AS c
WHERE c.contype = 'f' AND c.conrelid = ANY(%(oids)s::oid[]) AND c.confrelid <> c.conrelid
ORDER BY c.conrelid, c.conname
"""

_BEHIND = """
WITH RECURSIVE behind (view, relation) AS (
    SELECT v.oid, v.oid FROM pg_catalog.unnest(%(oids)s::oid[]) AS v (oid)
    UNION
    SELECT behind.view, d.refobjid
    FROM behind
    JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = behind.relation
    JOIN pg_catalog.pg_depend AS d
      ON d.classid = 'pg_catalog.pg_rewrite'::regclass::oid AND d.objid = r.oid
     AND d.refclassid = 'pg_catalog.pg_class'::regclass::oid
)
"""
_BEHIND_VIEWS = (
    _BEHIND
    + """
SELECT view::bigint, relation::bigint FROM behind WHERE view <> relation
"""
)
_FOREIGN_VIEWS = (
    _BEHIND
    + """
SELECT behind.view::bigint, o.rolname
FROM behind
JOIN pg_catalog.pg_class AS c ON c.oid = behind.relation AND c.relkind = 'v'
JOIN pg_catalog.pg_roles AS o ON o.oid = c.relowner
JOIN pg_catalog.pg_database AS d ON d.datname = pg_catalog.current_database()
WHERE NOT (o.rolname = current_user OR o.rolsuper OR o.oid = d.datdba)
"""
)

_QUOTED = """
SELECT n.name, pg_catalog.quote_ident(n.name)
FROM pg_catalog.unnest(%(names)s::text[]) AS n (name)
"""

STORE_SUFFIX = "_embedding_store"
"""pgai names the table of a vectorizer after its source."""


def find_candidates(connection: Connection) -> Candidates:
    """Every table with an embedding column; a view only where no table behind it has one."""
    names = [name for name in read_relation_names(connection) if not name.partition]
    oids = [name.oid for name in names]
    columns: dict[int, list[str]] = defaultdict(list)
    for oid, column in connection.execute(_EMBEDDING_COLUMNS, {"oids": oids}):
        columns[oid].append(column)
    keys = connection.execute(_FOREIGN_KEYS, {"oids": list(columns)}).fetchall()
    neighbours = _neighbours(names, set(columns))
    relations = read_relations(
        connection, sorted({*columns, *(parent for _, parent, *_ in keys), *neighbours})
    )
    listed = _without_derived(connection, relations, list(columns))
    foreign: dict[int, str] = dict(connection.execute(_FOREIGN_VIEWS, {"oids": listed}).fetchall())
    listed = [oid for oid in listed if oid not in foreign]
    foreign_keys: dict[int, list[ForeignKey]] = defaultdict(list)
    for oid, parent, own, referred in keys:
        if parent in relations:
            foreign_keys[oid].append(
                ForeignKey(
                    columns=tuple(own), parent=relations[parent], parent_columns=tuple(referred)
                )
            )
    indexed = read_indexed_relations(connection, listed)
    candidates = [
        Candidate(
            relation=relations[oid],
            embeddings=tuple(relations[oid].columns[name] for name in columns[oid]),
            foreign_keys=tuple(foreign_keys[oid]),
            indexes=tuple(index for holder in indexed[oid] for index in holder.indexes),
            estimated_rows=sum(holder.estimated_rows for holder in indexed[oid]),
        )
        for oid in listed
    ]
    words = {name for relation in relations.values() for name in relation.columns}
    words |= {word for relation in relations.values() for word in (relation.schema, relation.name)}
    return Candidates(
        candidates=tuple(sorted(candidates, key=lambda c: (c.relation.schema, c.relation.name))),
        names=tuple(names),
        neighbours={
            (relations[oid].schema, relations[oid].name): relations[oid]
            for oid in neighbours
            if oid in relations
        },
        quoted=dict(connection.execute(_QUOTED, {"names": sorted(words)}).fetchall()),
        foreign_views=tuple(
            (display_name(relations[oid].schema, relations[oid].name), owner)
            for oid, owner in foreign.items()
        ),
    )


def _neighbours(names: Sequence[RelationName], oids: set[int]) -> list[int]:
    """The relations that stores of pgai are named after."""
    wanted = {
        (name.schema, name.name.removesuffix(STORE_SUFFIX))
        for name in names
        if name.oid in oids and name.name.endswith(STORE_SUFFIX)
    }
    return [name.oid for name in names if (name.schema, name.name) in wanted]


def _without_derived(
    connection: Connection, relations: Mapping[int, Relation], oids: Sequence[int]
) -> list[int]:
    """The relations without the views whose rows come from another of these relations."""
    views = [oid for oid in oids if oid in relations and relations[oid].kind in ("v", "m")]
    tables = {oid for oid in oids if oid in relations} - set(views)
    derived = {
        view
        for view, behind in connection.execute(_BEHIND_VIEWS, {"oids": views})
        if behind in tables
    }
    return [oid for oid in oids if oid in relations and oid not in derived]
