"""Names the triggers that change what a repair writes. Reads the catalog; judges nothing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import psycopg

from checks.errors import CannotExamineError

if TYPE_CHECKING:
    from checks.database.connection import Connection
    from checks.targets.target import Target
    from remediation.selection.row_reader import RowReader

_FIRED_BY_A_WRITE = 4 | 16
"""Bits of pg_trigger.tgtype: INSERT and UPDATE."""


def triggers_fired(connection: Connection, target: Target) -> tuple[str, ...]:
    """The enabled triggers that a write of embeddings fires, with their functions, for people.

    Needs an open transaction. Those of constraints, which change nothing, are left out.
    """
    rows = connection.execute(
        """
SELECT tgname, tgfoid::regproc::text
FROM pg_catalog.pg_trigger
WHERE tgrelid = %s::oid AND NOT tgisinternal AND tgenabled <> 'D'
  AND tgtype & %s::smallint <> 0
ORDER BY tgname
""",
        (target.holder.oid, _FIRED_BY_A_WRITE),
    )
    return tuple(f"trigger {name} (function {function})" for name, function in rows)


def suspects(reader: RowReader, connection: Connection) -> str:
    """The same after a reason why a write did not heal; nothing where they cannot be read."""
    try:
        with reader.transaction(connection):
            found = triggers_fired(connection, reader.target)
    except (psycopg.Error, CannotExamineError):
        return ""  # the reason is true without it
    return f"; what its writes fire: {', '.join(found)}" if found else ""


def circumstances(connection: Connection, target: Target) -> str:
    """A hash of what decides whether a write heals: the entry's settings, the model, the triggers.

    Of a trigger its definition and its function's body. Needs an open transaction.
    """
    triggers = connection.execute(
        """
SELECT pg_catalog.pg_get_triggerdef(fired.oid), fired.tgenabled::text, called.prosrc
FROM pg_catalog.pg_trigger AS fired
JOIN pg_catalog.pg_proc AS called ON called.oid = fired.tgfoid
WHERE tgrelid = %s::oid AND NOT tgisinternal
ORDER BY tgname
""",
        (target.holder.oid,),
    ).fetchall()
    return hashlib.md5(
        repr((target.declared, target.model, triggers)).encode(), usedforsecurity=False
    ).hexdigest()
