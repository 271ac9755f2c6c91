"""Names the triggers that change what a repair writes. Reads the catalog; judges nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from checks.database.connection import Connection
    from checks.targets.target import Target

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
