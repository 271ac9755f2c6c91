"""Lets one repair work on a table at a time, across machines, by an advisory lock.

The lock lives in an idle read-committed transaction, which holds no snapshot and passes through
PgBouncer's transaction mode; it ends with its connection, so a killed repair leaves nothing behind.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Protocol, Self

import psycopg
from psycopg import sql

from checks.database.connection import connect
from checks.database.open_sockets import within
from checks.errors import IntegrityError

if TYPE_CHECKING:
    from types import TracebackType

    from checks.database.connection import Connection, ConnectionTarget
    from checks.targets.target import Target

LOCK_CLASS = 0x656D6264
"""The first key of our advisory locks ("embd" in ASCII); the second is the table's oid."""

TRANSACTION_TIMEOUT_SINCE = 170000
"""transaction_timeout, which would end the lock, came with PostgreSQL 17."""

HEARTBEAT_SECONDS = 1.0
ANSWER_SECONDS = 10.0
"""For taking the lock and for a heartbeat; a link that is silent for longer is taken for lost."""

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


class HeldLock(Protocol):
    """Under which a table is written."""

    def beat(self) -> None:
        """See `RepairLock.beat`."""

    def check(self) -> None:
        """See `RepairLock.check`."""


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
            limits = ["idle_in_transaction_session_timeout"]
            if self._target.server.version_number >= TRANSACTION_TIMEOUT_SINCE:
                limits.append("transaction_timeout")
            name = f"embedding-integrity {self._run_id} {socket.gethostname()}"[:63]
            settings = {"application_name": name, **dict.fromkeys(limits, "0")}
            with within(connection, ANSWER_SECONDS):
                connection.execute("BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED")
                for setting, value in settings.items():
                    connection.execute(
                        "SELECT pg_catalog.set_config(%s, %s, true)", (setting, value)
                    )
                self._take(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._checked = time.monotonic()
        return self

    def _take(self, connection: Connection) -> None:
        # Without parameters it is a simple query, whose portal, and so its snapshot, ends with it.
        statement = sql.SQL("SELECT pg_catalog.pg_try_advisory_xact_lock({}, {})").format(
            sql.Literal(LOCK_CLASS), sql.Literal(_signed(self._target.facts.oid))
        )
        row = connection.execute(statement).fetchone()
        if row is not None and row[0]:
            return
        holder = connection.execute(_HOLDER, (LOCK_CLASS, self._target.facts.oid)).fetchone()
        who = "another session"
        if holder is not None:
            name, address, pid, since = holder
            # A role without pg_read_all_stats sees neither address nor time of other roles.
            where = f" from {address}" if address else ""
            who = f"{name!r} (backend {pid}{where}{f', since {since}' if since else ''})"
        raise TableLockedError(
            f"{self._target.name} is being repaired by {who}; wait for it to end, or end it with"
            " SELECT pg_terminate_backend(pid)"
        )

    def also_hold(self, lock_class: int, number: int) -> None:
        """Take another lock, which nobody else takes and which ends with this one.

        Raises psycopg's errors.
        """
        assert self._connection is not None
        statement = sql.SQL("SELECT pg_catalog.pg_advisory_xact_lock({}, {})")
        with within(self._connection, ANSWER_SECONDS):
            self._connection.execute(statement.format(sql.Literal(lock_class), sql.Literal(number)))

    def beat(self) -> None:
        """`check`, but at most once a second, for a caller that comes by often."""
        if time.monotonic() - self._checked >= HEARTBEAT_SECONDS:
            self.check()

    def check(self) -> None:
        """Make sure that the lock is still held, by asking the server. Raises `LockLostError`."""
        if self._connection is None:
            raise LockLostError(f"the lock of {self._target.name} is not held")
        try:
            with within(self._connection, ANSWER_SECONDS):
                self._connection.execute("SELECT 1")
        except psycopg.Error:
            raise LockLostError(
                f"the connection that held the lock of {self._target.name} was lost;"
                " the repair stops, as another one may have begun"
            ) from None
        self._checked = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _signed(oid: int) -> int:
    """An oid as the signed integer that the two-key form of the lock takes."""
    return oid - (1 << 32) if oid >= 1 << 31 else oid
