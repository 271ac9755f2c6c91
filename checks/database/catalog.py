"""Reads relations from the catalog: columns, keys, indexes, policies, rights.

Reads the catalog only; judges nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import LiteralString

    from checks.database.connection import Connection


@dataclass(frozen=True, kw_only=True, slots=True)
class RelationName:
    """A relation as the catalog names it."""

    oid: int
    schema: str
    name: str
    visible: bool
    """Whether the unqualified name finds it on the search path."""
    partition: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column; `dimension` is that of a pgvector type, None where any is admitted."""

    name: str
    type: str
    """The type without its modifier, that below a domain; an embedding column is known by it."""
    full_type: str
    """The type with its modifier; a value that travelled as text is cast back to it."""
    dimension: int | None
    not_null: bool
    readable: bool = True
    """Whether the role may read this column."""
    has_default: bool = False
    """Whether a new row may leave it out: a default, an identity, or generated."""
    generated: bool = False
    """Whether PostgreSQL makes its value from other columns, so that nobody can set it."""
    operators: str = "pg_catalog"
    """The schema of the operators that its type is compared with by default."""

    def operator(self, symbol: LiteralString, other: Column | None = None) -> sql.Composable:
        """A comparison of its type with itself, or with another column's, whatever the path."""
        same = other is None or other.operators == self.operators
        if not same or self.operators == "pg_catalog":
            return sql.SQL("OPERATOR(pg_catalog.{})").format(sql.SQL(symbol))
        return sql.SQL("OPERATOR({}.{})").format(sql.Identifier(self.operators), sql.SQL(symbol))


@dataclass(frozen=True, kw_only=True, slots=True)
class Relation:
    """A table, partitioned table, view, materialised view or foreign table."""

    oid: int
    schema: str
    name: str
    kind: str
    columns: Mapping[str, Column]
    primary_key: tuple[str, ...]
    unique_keys: tuple[tuple[str, ...], ...]
    """Columns of each unique, valid index without predicate or expressions, NOT NULL or not."""
    ann_indexed: frozenset[str]
    """Columns under an hnsw or ivfflat index, where a write costs a hundred times more."""
    hiding_policies: tuple[str, ...]
    """Row-level security policies in force for this role that may hide rows; () where none may."""
    row_security: bool
    """Whether row-level security is in force for this role at all."""
    readable: bool
    triggered: bool
    """Whether it has triggers, those of constraints among them, rules, or tables that inherit from
    it and may have some; or had them before."""

    @property
    def writable_kind(self) -> bool:
        """Whether rows of this kind of relation can be updated in place."""
        return self.kind in {"r", "p"}

    @property
    def has_places(self) -> bool:
        """Whether each of its rows has a place, as a table's has, and a view's has not."""
        return self.kind in {"r", "p", "m"}


_RELATION_NAMES = """
SELECT c.oid::bigint, n.nspname, c.relname, pg_catalog.pg_table_is_visible(c.oid),
       c.relispartition
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
  AND n.nspname::text NOT LIKE 'pg\\_temp\\_%'
  AND n.nspname::text NOT LIKE 'pg\\_toast\\_temp\\_%'
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend AS d
      WHERE d.classid = 'pg_catalog.pg_class'::regclass::oid
        AND d.objid = c.oid AND d.deptype = 'e'
  )
ORDER BY n.nspname, c.relname
"""

_RELATIONS = """
SELECT c.oid::bigint, n.nspname, c.relname, c.relkind::text,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE')
           AND pg_catalog.has_any_column_privilege(c.oid, 'SELECT'),
       c.relrowsecurity AND pg_catalog.row_security_active(c.oid),
       c.relhastriggers OR c.relhasrules OR c.relkind = 'r' AND c.relhassubclass
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = ANY(%(oids)s::oid[])
"""

# A domain's modifier is that of the type below it; an array of a domain is one of what is below.
TYPES_BELOW = """
WITH RECURSIVE domain_below (oid, below, typmod, not_null, has_default) AS (
    SELECT t.oid, t.typbasetype, t.typtypmod, t.typnotnull, t.typdefault IS NOT NULL
    FROM pg_catalog.pg_type AS t WHERE t.typtype = 'd'::"char"
    UNION ALL
    SELECT d.oid, t.typbasetype, t.typtypmod, d.not_null OR t.typnotnull,
           d.has_default OR t.typdefault IS NOT NULL
    FROM domain_below AS d
    JOIN pg_catalog.pg_type AS t ON t.oid = d.below AND t.typtype = 'd'::"char"
),
type_below (oid, below, typmod, not_null, has_default) AS (
    SELECT d.* FROM domain_below AS d
    JOIN pg_catalog.pg_type AS t ON t.oid = d.below AND t.typtype <> 'd'::"char"
    UNION ALL
    SELECT e.typarray, t.typarray, d.typmod, false, false FROM domain_below AS d
    JOIN pg_catalog.pg_type AS e ON e.oid = d.oid AND e.typarray <> 0::oid
    JOIN pg_catalog.pg_type AS t
      ON t.oid = d.below AND t.typtype <> 'd'::"char" AND t.typarray <> 0::oid
)
"""
"""The types that domains stand for, by the domain's oid: to be joined to a column's type."""

# 403 is the access method btree (pg_am.dat), 3 its strategy for equality (stratnum.h).
_COLUMNS = (
    TYPES_BELOW
    + """
SELECT a.attrelid::bigint, a.attname,
       pg_catalog.format_type(t.oid, NULL),
       pg_catalog.format_type(t.oid, coalesce(b.typmod, a.atttypmod)), t.typname,
       coalesce(b.typmod, a.atttypmod), a.attnotnull OR coalesce(b.not_null, false),
       pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
       a.atthasdef OR a.attidentity <> '' OR coalesce(b.has_default, false), a.attgenerated <> '',
       coalesce(n.nspname, 'pg_catalog')
FROM pg_catalog.pg_attribute AS a
LEFT JOIN type_below AS b ON b.oid = a.atttypid
JOIN pg_catalog.pg_type AS t ON t.oid = coalesce(b.below, a.atttypid)
-- A type without an operator class of its own is compared as one of PostgreSQL's, as varchar is.
LEFT JOIN pg_catalog.pg_opclass AS o
  ON o.opcintype = t.oid AND o.opcdefault AND o.opcmethod = 403::oid
LEFT JOIN pg_catalog.pg_amop AS p
  ON p.amopfamily = o.opcfamily AND p.amopstrategy = 3::smallint
 AND p.amoplefttype = o.opcintype AND p.amoprighttype = o.opcintype
LEFT JOIN pg_catalog.pg_operator AS e ON e.oid = p.amopopr
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = e.oprnamespace
WHERE a.attrelid = ANY(%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""
)

_KEYS = """
SELECT i.indrelid::bigint, i.indisprimary,
       ARRAY(
           SELECT a.attname::text
           FROM pg_catalog.unnest(i.indkey[0:i.indnkeyatts - 1])
                WITH ORDINALITY AS k (attnum, position)
           JOIN pg_catalog.pg_attribute AS a
             ON a.attrelid = i.indrelid AND a.attnum = k.attnum
           ORDER BY k.position
       )
FROM pg_catalog.pg_index AS i
WHERE i.indrelid = ANY(%(oids)s::oid[])
  AND i.indisunique AND i.indisvalid AND i.indimmediate
  AND i.indpred IS NULL AND i.indexprs IS NULL
"""

# By dependency: the column under an expression such as embedding::halfvec(3072) counts too.
_ANN_INDEXED = """
SELECT i.indrelid::bigint, a.attname::text
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_am AS m ON m.oid = c.relam
JOIN pg_catalog.pg_depend AS d
  ON d.classid = 'pg_catalog.pg_class'::regclass::oid AND d.objid = i.indexrelid
 AND d.refclassid = 'pg_catalog.pg_class'::regclass::oid AND d.refobjid = i.indrelid
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = d.refobjsubid
WHERE i.indrelid = ANY(%(oids)s::oid[]) AND m.amname IN ('hnsw', 'ivfflat')
"""

_POLICIES = """
SELECT p.polrelid::bigint, p.polname::text, p.polpermissive,
       coalesce(pg_catalog.pg_get_expr(p.polqual, p.polrelid), 'true') = 'true'
FROM pg_catalog.pg_policy AS p
WHERE p.polrelid = ANY(%(oids)s::oid[])
  AND p.polcmd IN ('r', '*')
  AND EXISTS (
      SELECT FROM pg_catalog.unnest(p.polroles) AS r (oid)
      WHERE r.oid = 0::oid OR pg_catalog.pg_has_role(r.oid, 'USAGE')
  )
ORDER BY p.polname
"""


def read_relation_names(connection: Connection) -> tuple[RelationName, ...]:
    """Every relation a declaration may name."""
    return tuple(
        RelationName(oid=oid, schema=schema, name=name, visible=visible, partition=partition)
        for oid, schema, name, visible, partition in connection.execute(_RELATION_NAMES)
    )


def read_relations(connection: Connection, oids: Sequence[int]) -> dict[int, Relation]:
    """The full facts of some relations, by oid; one query for each kind of fact, not per table."""
    wanted = {"oids": list(oids)}
    columns: dict[int, dict[str, Column]] = {oid: {} for oid in oids}
    for row in connection.execute(_COLUMNS, wanted):
        oid, name, bare, full, type_name, typmod, not_null, visible, default, made, operators = row
        columns[oid][name] = Column(
            name=name,
            type=type_name if type_name in _VECTOR_TYPES else bare,
            full_type=full,
            dimension=typmod if type_name in _VECTOR_TYPES and typmod > 0 else None,
            not_null=not_null,
            readable=bool(visible),
            has_default=default,
            generated=made,
            operators=operators,
        )
    primary: dict[int, tuple[str, ...]] = {}
    unique: dict[int, list[tuple[str, ...]]] = {oid: [] for oid in oids}
    for oid, is_primary, names in connection.execute(_KEYS, wanted):
        unique[oid].append(tuple(names))
        if is_primary:
            primary[oid] = tuple(names)
    ann_indexed: dict[int, set[str]] = {oid: set() for oid in oids}
    for oid, name in connection.execute(_ANN_INDEXED, wanted):
        ann_indexed[oid].add(name)
    policies: dict[int, list[tuple[str, bool, bool]]] = {oid: [] for oid in oids}
    for oid, name, permissive, admits_all in connection.execute(_POLICIES, wanted):
        policies[oid].append((name, permissive, admits_all))
    return {
        oid: Relation(
            oid=oid,
            schema=schema,
            name=name,
            kind=kind,
            columns=columns[oid],
            primary_key=primary.get(oid, ()),
            unique_keys=tuple(unique[oid]),
            ann_indexed=frozenset(ann_indexed[oid]),
            hiding_policies=_hiding(policies[oid]) if active else (),
            row_security=active,
            readable=readable,
            triggered=triggered,
        )
        for oid, schema, name, kind, readable, active, triggered in connection.execute(
            _RELATIONS, wanted
        )
    }


_VECTOR_TYPES = frozenset({"vector", "halfvec", "sparsevec"})


def read_type_oids(connection: Connection, schema: str, name: str) -> tuple[int, int]:
    """The oids of a type and of its arrays. Raises LookupError where it is gone."""
    row = connection.execute(
        """
SELECT t.oid::bigint, t.typarray::bigint
FROM pg_catalog.pg_type AS t
JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
WHERE n.nspname = %s AND t.typname = %s
""",
        (schema, name),
    ).fetchone()
    if row is None:
        raise LookupError(f"the type {name} is gone from schema {schema}")
    return row[0], row[1]


def _hiding(policies: Sequence[tuple[str, bool, bool]]) -> tuple[str, ...]:
    """The policies that may hide rows: none when one admits all and none restricts."""
    restrictive = [name for name, permissive, admits_all in policies if not permissive]
    if not restrictive and any(admits_all for _, permissive, admits_all in policies if permissive):
        return ()
    return tuple(name for name, _, _ in policies) or ("(no policy admits this role)",)
