"""Lets a worker see whether the coordinator of its table is still there, by an advisory lock.

The coordinator holds it on the connection that holds the table's own lock; a worker takes neither.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from checks.database.open_sockets import within
from remediation.distributed.shared.schema import SCHEMA
from remediation.writing.repair_lock import ANSWER_SECONDS, HEARTBEAT_SECONDS, LockLostError

if TYPE_CHECKING:
    from checks.database.connection import Connection

RUN_LOCK_CLASS = 0x656D6272
"""The first key of a run's lock ("embr" in ASCII); the second is the token of its work."""

_HELD = sql.SQL("""
SELECT w.over FROM {schema}.work AS w JOIN pg_catalog.pg_locks AS l
  ON l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
 AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
 AND l.classid = {lock_class}::bigint::oid AND l.objid = w.token::bigint::oid
WHERE w.run_id = %s AND w.table_name = %s
""").format(schema=sql.Identifier(SCHEMA), lock_class=sql.Literal(RUN_LOCK_CLASS))


class CoordinatorAlive:
    """Stands in a worker where a repair's lock stands: the coordinator's, which it works under."""

    def __init__(self, connection: Connection, run_id: str, table: str) -> None:
        self._connection = connection
        self._work = (run_id, table)
        self._checked = 0.0

    def beat(self) -> None:
        """At most once a second, make sure that the coordinator wants us to go on.

        Raises `LockLostError`, also where it ends in order: what is in flight may then be written.
        """
        # Not reset by the checks before writes, which may come more often.
        if time.monotonic() - self._checked >= HEARTBEAT_SECONDS:
            self._checked = time.monotonic()
            if self._is_over():
                raise LockLostError("the coordinator of the repair ends")

    def check(self) -> None:
        """Make sure that the coordinator is still there. Raises `LockLostError`."""
        self._is_over()

    def _is_over(self) -> bool:
        """Whether the coordinator, which is still there, wants no more to be sent."""
        try:
            with within(self._connection, ANSWER_SECONDS):
                row = self._connection.execute(_HELD, self._work).fetchone()
        except psycopg.Error:
            raise LockLostError(
                "the connection by which the coordinator is seen was lost; the job stops"
            ) from None
        if row is None:
            raise LockLostError("the coordinator of the repair is gone; the job stops")
        return bool(row[0])
