"""Lets one repair work on some rows at a time, across machines, by advisory locks.

The lock lives in an idle read-committed transaction, which holds no snapshot and passes through
PgBouncer's transaction mode; it ends with its connection, so a killed repair leaves nothing behind.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Protocol, Self

import psycopg
from psycopg import sql

from checks.database.connection import begin, connect
from checks.database.open_sockets import within
from checks.errors import IntegrityError
from remediation.writing.lock_scope import compile_holder, compile_take, read_lock_scope

if TYPE_CHECKING:
    from types import TracebackType

    from checks.database.connection import Connection, ConnectionTarget
    from checks.targets.target import Target

HEARTBEAT_SECONDS = 1.0
ANSWER_SECONDS = 10.0
"""For taking the lock and for a heartbeat; a link that is silent for longer is taken for lost."""


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
            name = f"embedding-integrity {self._run_id} {socket.gethostname()}"[:63]
            with within(connection, ANSWER_SECONDS):
                begin(connection, self._place, {"application_name": name})
                self._take(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._checked = time.monotonic()
        return self

    def _take(self, connection: Connection) -> None:
        # Statements without parameters are simple queries, whose portals, and so their snapshots,
        # end with them.
        scope = read_lock_scope(connection, self._target.holder.oid)
        row = connection.execute(compile_take(scope)).fetchone()
        taken = row is not None and all(row)
        if taken and not scope.parts:
            return
        # Who began to write a part before it was one holds no lock but that part's own.
        holder = connection.execute(compile_holder(scope)).fetchone()
        if taken and holder is None:
            return
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
