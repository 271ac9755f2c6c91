"""Finds the rows whose keys or provenance are no UTF-8, as a database without an encoding may hold.

No statement can return them, and so no repair can find such a row again, or put its provenance
back: the row is left out and named. Asked in the caller's read-only transaction.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.undecodable import is_readable, readable
from checks.row_checks.row_relation import columns_of, rows_of
from checks.targets.unreadable_rows import UnreadableRow, UnreadableRows, all_but

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.connection import Connection
    from checks.targets.target import Target

MOST_ROWS = 200
"""Rows that are named for one reason; of those with such keys, as many as there are, are left out.
"""
REASON = "its bytes are no UTF-8"


def without_undecodable(connection: Connection, target: Target) -> Target:
    """The target, of a database without an encoding, without such rows, some of which it names.

    Raises psycopg's errors.
    """
    if not target.key:
        return target
    target = replace(target, unreadable=None, evaluated=None)
    words = [sql.SQL("{}::text").format(sql.Identifier(column.name)) for column in target.key]
    # A key that may be NULL is another check's matter.
    every = sql.SQL(" AND ").join(
        sql.SQL("({}) IS NOT FALSE").format(is_readable(word)) for word in words
    )
    told = sql.SQL(", ").join(readable(word, target.server) for word in words)
    keys = connection.execute(
        sql.SQL("SELECT {} FROM {} WHERE NOT ({}) LIMIT {}").format(
            told, target.identifier, every, sql.Literal(MOST_ROWS + 1)
        )
    ).fetchall()
    target = _without(connection, target, "key", keys, every) if keys else target
    if any(not column.not_null for column in target.key):
        return target
    given = columns_of(target)
    for setting, word in (("model_column", given.model), ("content_hash", given.content_hash)):
        keys = [] if word is None else _keys_where_undecodable(connection, target, word)
        if keys:
            others = all_but(target.key, keys[:MOST_ROWS])
            target = _without(connection, target, setting, keys, others)
    return target


def _keys_where_undecodable(
    connection: Connection, target: Target, word: sql.Composable
) -> list[tuple[str, ...]]:
    names = (sql.Identifier(f"key_{n}") for n, _ in enumerate(target.key, start=1))
    return connection.execute(
        sql.SQL("SELECT DISTINCT {} FROM {} AS r WHERE NOT ({}) LIMIT {}").format(
            sql.SQL(", ").join(sql.SQL("{}::text").format(name) for name in names),
            rows_of(target),
            is_readable(word),
            sql.Literal(MOST_ROWS + 1),
        )
    ).fetchall()


def _without(
    connection: Connection,
    target: Target,
    setting: str,
    keys: Sequence[tuple[str, ...]],
    others: sql.Composable,
) -> Target:
    """The target without rows whose value of a setting is no UTF-8, and those it leaves out yet."""
    known = target.unreadable
    if known is None:
        counted = sql.SQL("SELECT count(*) FROM {}").format(target.identifier)
        ((total,),) = connection.execute(counted).fetchall()
        known = UnreadableRows(rows=(), total=total)
    rows = tuple(
        UnreadableRow(key=key, expression=setting, reason=REASON) for key in keys[:MOST_ROWS]
    )
    if target.evaluated is not None:
        others = sql.SQL("{} AND {}").format(target.evaluated, others)
    return replace(
        target,
        unreadable=replace(
            known,
            rows=(*known.rows, *rows),
            complete=known.complete and len(keys) <= MOST_ROWS,
        ),
        evaluated=others,
    )
