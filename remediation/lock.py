"""One repair per table at a time, across machines: an advisory lock on a connection of its own.

The lock lives in an idle read-committed transaction, which holds no snapshot and passes through
PgBouncer's transaction mode; it ends with its connection, so a killed repair leaves nothing behind.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Self

import psycopg

from checks.connection import connect
from checks.errors import IntegrityError

if TYPE_CHECKING:
    from types import TracebackType

    from checks.connection import Connection, ConnectionTarget
    from checks.targets import Target

LOCK_CLASS = 0x656D6264
"""The first key of our advisory locks ("embd" in ASCII); the second is the table's oid."""

HEARTBEAT_SECONDS = 1.0

_HOLDER = """
SELECT a.application_name, host(a.client_addr), a.pid, to_char(a.xact_start, 'HH24:MI:SS TZ')
FROM pg_catalog.pg_locks AS l
JOIN pg_catalog.pg_stat_activity AS a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  AND l.classid = %s::bigint::oid AND l.objid = %s::bigint::oid AND l.objsubid = 2
"""


class TableLockedError(IntegrityError):
    """Another repair works on the table; says who."""


class LockLostError(IntegrityError):
    """The connection that held the lock is gone; another repair may have begun."""


class RepairLock:
    """Holds a target's lock while the `with` block runs. Raises `TableLockedError` on entry."""

    def __init__(self, place: ConnectionTarget, target: Target, *, run_id: str) -> None:
        self._place = place
        self._target = target
        self._run_id = run_id
        self._connection: Connection | None = None
        self._checked = 0.0

    def __enter__(self) -> Self:
        connection = connect(self._place)
        try:
            connection.execute("BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED")
            name = f"embedding-integrity {self._run_id} {socket.gethostname()}"[:63]
            for setting, value in (
                ("application_name", name),
                ("idle_in_transaction_session_timeout", "0"),
            ):
                connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", (setting, value))
            self._take(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._checked = time.monotonic()
        return self

    def _take(self, connection: Connection) -> None:
        keys = (LOCK_CLASS, _signed(self._target.facts.oid))
        row = connection.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", keys).fetchone()
        if row is not None and row[0]:
            return
        holder = connection.execute(_HOLDER, (LOCK_CLASS, self._target.facts.oid)).fetchone()
        who = "another session"
        if holder is not None:
            name, address, pid, since = holder
            who = f"{name!r} (backend {pid} from {address or 'the local socket'}, since {since})"
        raise TableLockedError(
            f"{self._target.name} is being repaired by {who}; wait for it to end, or end it with"
            " SELECT pg_terminate_backend(pid)"
        )

    def check(self) -> None:
        """Make sure the lock is still held, asking the server at most once a second.

        Raises `LockLostError`.
        """
        now = time.monotonic()
        if self._connection is None or now - self._checked < HEARTBEAT_SECONDS:
            return
        try:
            self._connection.execute("SELECT 1")
        except psycopg.Error:
            raise LockLostError(
                f"the connection that held the lock of {self._target.name} was lost;"
                " the repair stops, as another one may have begun"
            ) from None
        self._checked = now

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            self._connection.close()


def _signed(oid: int) -> int:
    """An oid as the signed integer that the two-key form of the lock takes."""
    return oid - (1 << 32) if oid >= 1 << 31 else oid
