"""Lets a worker see whether the coordinator of its table is still there, by an advisory lock.

The coordinator holds it on the connection that holds the table's own lock; a worker takes neither.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from checks.database.open_sockets import within
from remediation.distributed.schema import SCHEMA
from remediation.writing.repair_lock import ANSWER_SECONDS, HEARTBEAT_SECONDS, LockLostError

if TYPE_CHECKING:
    from checks.database.connection import Connection

RUN_LOCK_CLASS = 0x656D6272
"""The first key of a run's lock ("embr" in ASCII); the second is the token of its work."""

_HELD = sql.SQL("""
SELECT EXISTS (
    SELECT FROM {schema}.work AS w JOIN pg_catalog.pg_locks AS l
      ON l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
     AND l.classid = {lock_class}::bigint::oid AND l.objid = w.token::bigint::oid
    WHERE w.run_id = %s AND w.table_name = %s AND NOT w.over
)
""").format(schema=sql.Identifier(SCHEMA), lock_class=sql.Literal(RUN_LOCK_CLASS))


def is_alive(connection: Connection, run_id: str, table: str) -> bool:
    """Whether a table's coordinator still holds its lock. Raises psycopg's errors."""
    with within(connection, ANSWER_SECONDS):
        row = connection.execute(_HELD, (run_id, table)).fetchone()
    return row is not None and bool(row[0])


class CoordinatorAlive:
    """Stands in a worker where a repair's lock stands: the coordinator's, which it works under."""

    def __init__(self, connection: Connection, run_id: str, table: str) -> None:
        self._connection = connection
        self._run_id = run_id
        self._table = table
        self._checked = 0.0

    def beat(self) -> None:
        """`check`, but at most once a second, for a caller that comes by often."""
        if time.monotonic() - self._checked >= HEARTBEAT_SECONDS:
            self.check()

    def check(self) -> None:
        """Make sure that the coordinator is still there. Raises `LockLostError`."""
        try:
            alive = is_alive(self._connection, self._run_id, self._table)
        except psycopg.Error:
            raise LockLostError(
                "the connection by which the coordinator is seen was lost; the job stops"
            ) from None
        if not alive:
            raise LockLostError("the coordinator of the repair is gone or ends; the job stops")
        self._checked = time.monotonic()
