"""Finds the rights that a repair lacks before the provider is paid. Reads the catalog only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.connection import read_only

if TYPE_CHECKING:
    from datetime import timedelta

    from checks.database.connection import Connection, ConnectionTarget
    from checks.targets.target import Target

RIGHTS = """
SELECT current_user,
       ARRAY(
           SELECT asked.name
           FROM pg_catalog.unnest(%(columns)s::text[]) AS asked (name)
           WHERE NOT pg_catalog.has_column_privilege(%(relation)s::oid, asked.name, 'UPDATE')
       ),
       pg_catalog.has_any_column_privilege(%(relation)s::oid, 'INSERT')
"""


def missing_rights(
    connection: Connection, place: ConnectionTarget, target: Target, *, timeout: timedelta
) -> str | None:
    """What the role of a connection may not do that a write to a target needs, with the GRANT.

    None where it may. Raises psycopg's errors.
    """
    store, holder = target.store, target.holder
    columns = [target.embedding.name, *(held.column.name for held in target.written_beside)]
    if store is not None and store.text_column is not None:
        columns.append(store.text_column)
    columns = [name for name in dict.fromkeys(columns) if name in holder.columns]
    parameters = {"columns": columns, "relation": holder.oid}
    with read_only(connection, place, statement_timeout=timeout):
        (role, unwritable, inserts), *_ = connection.execute(RIGHTS, parameters).fetchall()
    rights: list[sql.Composable] = []
    if store is not None and not inserts:
        rights.append(sql.SQL("INSERT"))
    if unwritable:
        named = sql.SQL(", ").join(map(sql.Identifier, unwritable))
        rights.append(sql.SQL("UPDATE ({})").format(named))
    if not rights:
        return None
    relation = sql.Identifier(holder.schema, holder.name)
    grant = sql.SQL("GRANT {} ON {} TO {};").format(
        sql.SQL(", ").join(rights), relation, sql.Identifier(role)
    )
    return f"role {role!r} may not write there; grant it: {grant.as_string(None)}"
