"""Reads from the catalog what the migration depends on: what is there, and who may do what.

Reads only; decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from checks.settings.names import fitted_name
from remediation.prevention.owned_objects import taken_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from checks.database.catalog import Relation
    from checks.database.connection import Connection
    from checks.targets.target import Target
    from remediation.prevention.owned_objects import OwnedObject


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexPlace:
    """A table, or each part of a partitioned one, and what is known of an index on it."""

    schema: str
    name: str
    partitioned: bool
    parent: tuple[str, str] | None
    """Schema and name of what it is a partition of; None for the declared table."""
    broken: bool
    """Whether ours is there, and was never finished."""


def index_name(target: Target, table: str) -> str:
    """What the index of a target's table, or of a partition, is called: always the same."""
    return fitted_name("embedding_integrity_missing_", table + target.place)


_PATH = "SELECT pg_catalog.current_schemas(false)::text[]"

_GENERATED = """
SELECT a.attname, pg_catalog.pg_get_expr(d.adbin, d.adrelid)
FROM pg_catalog.pg_attribute AS a
JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %(oid)s::oid AND a.attgenerated <> '' AND NOT a.attisdropped
"""

_PLACES = """
SELECT n.nspname, c.relname, c.relkind::text, pn.nspname, p.relname,
       ARRAY(SELECT ic.relname::text
             FROM pg_catalog.pg_index AS i
             JOIN pg_catalog.pg_class AS ic ON ic.oid = i.indexrelid
             WHERE i.indrelid = c.oid AND NOT i.indisvalid)
FROM (
    SELECT relid, parentrelid, level FROM pg_catalog.pg_partition_tree(%(oid)s::oid::regclass)
    UNION
    SELECT %(oid)s::oid::regclass, NULL, 0
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_partition_tree(%(oid)s::oid::regclass))
) AS t
JOIN pg_catalog.pg_class AS c ON c.oid = t.relid::oid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_class AS p ON p.oid = t.parentrelid::oid AND t.level > 0
LEFT JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.relnamespace
ORDER BY t.level, n.nspname, c.relname
"""

_CANNOT_MARK = """
SELECT r.rolname
FROM pg_catalog.pg_roles AS r
WHERE pg_catalog.has_any_column_privilege(r.oid, %(table)s::oid, 'UPDATE')
  AND NOT (
      pg_catalog.has_column_privilege(r.oid, %(store)s::oid, %(column)s, 'UPDATE')
      AND (SELECT bool_and(pg_catalog.has_column_privilege(r.oid, %(store)s::oid, c.name, 'SELECT'))
           FROM pg_catalog.unnest(%(read)s::text[]) AS c (name))
      AND pg_catalog.has_schema_privilege(
          r.oid, (SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = %(store)s::oid), 'USAGE')
  )
  AND r.rolname::text !~ '^pg_'
ORDER BY r.rolname
"""


def schemas_in_effect(connection: Connection) -> tuple[str, ...]:
    """The search path of the transaction, in which the settings' expressions were validated."""
    row = connection.execute(_PATH).fetchone()
    return tuple(name for name in (row[0] if row else ()) if name not in ("pg_catalog", "pg_temp"))


def schema_exists(connection: Connection, schema: str) -> bool:
    """Whether there is such a schema, to hold the view."""
    found = connection.execute("SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s", (schema,))
    return found.fetchone() is not None


def generated_columns(connection: Connection, relation: Relation) -> Mapping[str, str]:
    """The generated columns of a relation with their expressions, every name in these qualified."""
    if not any(column.generated for column in relation.columns.values()):
        return {}
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL search_path = ''")
        return dict(connection.execute(_GENERATED, {"oid": relation.oid}).fetchall())


def index_places(connection: Connection, target: Target) -> tuple[IndexPlace, ...]:
    """The target's table, then its partitions, each after what it is a partition of."""
    found = connection.execute(_PLACES, {"oid": target.facts.oid})
    return tuple(
        IndexPlace(
            schema=schema,
            name=name,
            partitioned=kind == "p",
            parent=None if parent is None else (parent_schema, parent),
            broken=kind != "p" and index_name(target, name) in unfinished,
        )
        for schema, name, kind, parent_schema, parent, unfinished in found
        if kind in ("r", "p")
    )


def roles_that_cannot_mark(connection: Connection, target: Target, column: str) -> tuple[str, ...]:
    """Roles that may edit the target's texts but not set this column of its store."""
    store = target.store
    assert store is not None
    wanted = {
        "table": target.facts.oid,
        "store": store.relation.oid,
        "column": column,
        "read": [column, *store.declared.key],
    }
    return tuple(name for (name,) in connection.execute(_CANNOT_MARK, wanted))


def names_taken(connection: Connection, objects: Sequence[OwnedObject]) -> str | None:
    """What has a name of these without being ours, in words; None where nothing has."""
    row = connection.execute(taken_names(objects)).fetchone() if objects else None
    return row[0] if row else None


def is_there(connection: Connection, owned: OwnedObject) -> bool:
    """Whether something has the object's name."""
    return connection.execute(sql.SQL("SELECT {}").format(owned.oid)).fetchone() != (None,)
