"""Finds the rows whose keys are no UTF-8, as a database without an encoding may hold.

No statement can return such a key, and so no repair can find its row again: the row is left out and
named by its bytes. Asked in the caller's read-only transaction.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.undecodable import is_readable, readable
from checks.targets.unreadable_rows import UnreadableRow, UnreadableRows

if TYPE_CHECKING:
    from checks.database.connection import Connection
    from checks.targets.target import Target

MOST_ROWS = 200
"""Rows that are named; as many as there are, are left out."""


def with_readable_keys(connection: Connection, target: Target) -> Target:
    """The target, of a database without an encoding, without such rows, some of which it names.

    Raises psycopg's errors.
    """
    if not target.key:
        return target
    words = [sql.SQL("{}::text").format(sql.Identifier(column.name)) for column in target.key]
    # A key that may be NULL is another check's matter.
    every = sql.SQL(" AND ").join(
        sql.SQL("({}) IS NOT FALSE").format(is_readable(word)) for word in words
    )
    found = connection.execute(
        sql.SQL("SELECT {} FROM {} WHERE NOT ({}) LIMIT {}").format(
            sql.SQL(", ").join(readable(word, target.server) for word in words),
            target.identifier,
            every,
            sql.Literal(MOST_ROWS + 1),
        )
    ).fetchall()
    if not found:
        return target
    counted = sql.SQL("SELECT count(*) FROM {}").format(target.identifier)
    ((total,),) = connection.execute(counted).fetchall()
    rows = tuple(
        UnreadableRow(key=key, expression="key", reason="its bytes are no UTF-8")
        for key in found[:MOST_ROWS]
    )
    unreadable = UnreadableRows(rows=rows, total=total, complete=len(found) <= MOST_ROWS)
    return replace(target, unreadable=unreadable, evaluated=every)
