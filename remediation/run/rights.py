"""Finds the rights that a repair lacks before the provider is paid. Reads the catalog only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.connection import read_only

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from checks.database.catalog import Relation
    from checks.database.connection import Connection, ConnectionTarget
    from checks.targets.target import Target

RIGHTS = """
SELECT current_user,
       pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'),
       ARRAY(
           SELECT asked.name
           FROM pg_catalog.unnest(%(reads)s::text[]) AS asked (name)
           WHERE NOT pg_catalog.has_column_privilege(c.oid, asked.name, 'SELECT')
       ),
       ARRAY(
           SELECT asked.name
           FROM pg_catalog.unnest(%(writes)s::text[]) AS asked (name)
           WHERE NOT pg_catalog.has_column_privilege(c.oid, asked.name, 'UPDATE')
       ),
       pg_catalog.has_any_column_privilege(c.oid, 'INSERT')
FROM pg_catalog.pg_class AS c
WHERE c.oid OPERATOR(pg_catalog.=) %(relation)s::oid
"""


def missing_rights(
    connection: Connection, place: ConnectionTarget, target: Target, *, timeout: timedelta
) -> str | None:
    """What the role of a connection may not do that a repair of a target needs, with the GRANT.

    None where it may. Raises psycopg's errors.
    """
    store, holder = target.store, target.holder
    writes = [target.embedding.name, *(held.column.name for held in target.written_beside)]
    if store is not None and store.text_column is not None:
        writes.append(store.text_column)
    writes = [name for name in dict.fromkeys(writes) if name in holder.columns]
    keys = [column.name for column in target.key]
    reads = [*writes, *(keys if store is None else ())]
    role, grants = "", list[str]()
    with read_only(connection, place, statement_timeout=timeout):
        if store is not None:
            role, grants = _lacking(connection, target.facts, reads=keys)
        role, of_holder = _lacking(
            connection, holder, reads=reads, writes=writes, inserts=store is not None
        )
    grants += of_holder
    if not grants:
        return None
    return f"role {role!r} lacks rights that a repair needs; grant them: {' '.join(grants)}"


def _lacking(
    connection: Connection,
    relation: Relation,
    *,
    reads: Sequence[str],
    writes: Sequence[str] = (),
    inserts: bool = False,
) -> tuple[str, list[str]]:
    """The role, and the statements that give it what it lacks on one relation."""
    asked = {"relation": relation.oid, "reads": list(reads), "writes": list(writes)}
    row, *_ = connection.execute(RIGHTS, asked).fetchall()
    role, uses_schema, unreadable, unwritable, may_insert = row
    rights: list[sql.Composable] = []
    if unreadable:
        # Of the whole table: the settings' expressions may name any column.
        rights.append(sql.SQL("SELECT"))
    if inserts and not may_insert:
        rights.append(sql.SQL("INSERT"))
    if unwritable:
        named = sql.SQL(", ").join(map(sql.Identifier, unwritable))
        rights.append(sql.SQL("UPDATE ({})").format(named))
    grants: list[sql.Composed] = []
    if not uses_schema:
        schema = sql.Identifier(relation.schema)
        grants.append(
            sql.SQL("GRANT USAGE ON SCHEMA {} TO {};").format(schema, sql.Identifier(role))
        )
    if rights:
        grants.append(
            sql.SQL("GRANT {} ON {} TO {};").format(
                sql.SQL(", ").join(rights),
                sql.Identifier(relation.schema, relation.name),
                sql.Identifier(role),
            )
        )
    return role, [grant.as_string(None) for grant in grants]
