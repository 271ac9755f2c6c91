"""Says which advisory locks stand for the rows that a repair of a relation may write.

Builds SQL only; runs nothing. A row is the same row by whichever name it is reached: through its
partition, through what that is a partition of, through an inheritance parent, or as a store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.connection import Connection

LOCK_CLASS = 0x656D6264
"""The first key of our advisory locks ("embd" in ASCII); the second is a relation's oid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LockScope:
    """The relations that stand for some rows, by oid, each in ascending order.

    What is written is locked alone; what it is a part of is shared with other parts of the same,
    and so kept from whoever writes all of it.
    """

    written: tuple[int, ...]
    """The relation, and what belongs to it and to another parent as well."""
    part_of: tuple[int, ...]
    """All that the relation inherits from, through any number of levels."""
    parts: tuple[int, ...]
    """All that inherits from it: whoever writes one of these has locked it alone."""


_FAMILY = """
WITH RECURSIVE above (relation) AS (
    SELECT {oid}::oid
    UNION
    SELECT i.inhparent FROM above JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = above.relation
),
below (relation) AS (
    SELECT {oid}::oid
    UNION
    SELECT i.inhrelid FROM below JOIN pg_catalog.pg_inherits AS i ON i.inhparent = below.relation
)
SELECT above.relation::bigint, false, false FROM above WHERE above.relation <> {oid}::oid
UNION ALL
SELECT below.relation::bigint, true, (
    SELECT count(*) > 1 FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = below.relation
) FROM below WHERE below.relation <> {oid}::oid
"""

_HOLDERS = """
SELECT a.application_name, pg_catalog.host(a.client_addr), a.pid,
       pg_catalog.to_char(a.xact_start, 'HH24:MI:SS TZ')
FROM pg_catalog.pg_locks AS l
JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()
  AND l.database = (
      SELECT d.oid FROM pg_catalog.pg_database AS d
      WHERE d.datname = pg_catalog.current_database()
  )
  AND l.classid = {lock_class}::bigint::oid AND l.objsubid = 2
  AND (l.objid = ANY({any_mode}::oid[])
       OR l.objid = ANY({alone}::oid[]) AND l.mode = 'ExclusiveLock')
ORDER BY a.xact_start
LIMIT 1
"""


def read_lock_scope(connection: Connection, oid: int) -> LockScope:
    """The scope of a relation as it is inherited now."""
    family = connection.execute(sql.SQL(_FAMILY).format(oid=sql.Literal(oid))).fetchall()
    below = [(relation, shared) for relation, is_below, shared in family if is_below]
    return LockScope(
        written=tuple(sorted({oid, *(relation for relation, shared in below if shared)})),
        part_of=tuple(sorted(relation for relation, is_below, _ in family if not is_below)),
        parts=tuple(sorted(relation for relation, _ in below)),
    )


def compile_take(scope: LockScope) -> sql.Composed:
    """A statement that tries to take every lock of a scope; a column for each, true where it could.

    It waits for nobody, so that no two can wait for each other.
    """
    calls = [
        sql.SQL("pg_catalog.{}({}, {})").format(
            function, sql.Literal(LOCK_CLASS), sql.Literal(_signed(oid))
        )
        for function, oids in (
            (sql.SQL("pg_try_advisory_xact_lock_shared"), scope.part_of),
            (sql.SQL("pg_try_advisory_xact_lock"), scope.written),
        )
        for oid in oids
    ]
    return sql.SQL("SELECT {}").format(sql.SQL(", ").join(calls))


def compile_holder(scope: LockScope) -> sql.Composed:
    """A statement that tells who else holds a lock that a scope cannot be shared with, if anybody.

    Returns application name, address, backend and since when.
    """
    return sql.SQL(_HOLDERS).format(
        lock_class=sql.Literal(LOCK_CLASS),
        any_mode=_oids(scope.written),
        alone=_oids((*scope.part_of, *scope.parts)),
    )


def _oids(oids: Sequence[int]) -> sql.Composed:
    # As text: psycopg would write an empty list without a type.
    return sql.SQL("{}").format(sql.Literal("{" + ",".join(map(str, oids)) + "}"))


def _signed(oid: int) -> int:
    """An oid as the signed integer that the two-key form of the lock takes."""
    return oid - (1 << 32) if oid >= 1 << 31 else oid
