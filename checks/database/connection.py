"""Opens and cancels connections, and runs short read-only transactions.

Never relies on session state that a transaction pooler would lose.
"""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
from psycopg.conninfo import make_conninfo

from checks.database.addresses import LEAST_SECONDS, resolved
from checks.database.errors import reason_of as reason_of
from checks.database.open_sockets import open_sockets, within
from checks.database.session import (
    CLIENT_ENCODING,
    READ_COMMITTED,
    READ_ONLY,
    begin_statement,
)
from checks.errors import CannotExamineError
from checks.redaction import redactor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import LiteralString

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

CONNECT_TIMEOUT_SECONDS = 10
RECONNECT_TIMEOUT_SECONDS = 4
"""Where a repair opens a connection anew: shorter than what a signal leaves it to end in order."""

CANCEL_TIMEOUT_SECONDS = 2.0
SILENCE_SECONDS = 30.0
"""Beyond the time-outs of its statements, until a transaction's link is taken for dead, and cut."""
READ_STATEMENTS = 3
"""Of one transaction that reads, that may each take as long as they are allowed."""

IDLE_TIMEOUT = timedelta(minutes=1)
"""Until the server ends a transaction whose client has vanished, and lets go what it holds: by
itself it would find a dead link after two hours, as TCP's keepalive does."""

KEEPALIVE = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    # How long what was sent may stay unacknowledged, in milliseconds.
    "tcp_user_timeout": "60000",
}
"""libpq's parameters that find a link which died without a word in a minute, not in hours."""

TRANSIENT = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.QueryCanceled,
    psycopg.errors.DeadlockDetected,
)
"""What a scan may meet on a busy server or a replica; tried once more, then an error."""

HINT = re.compile(r"\s*Is the server running [^?]*\?|\[Errno -?\d+\] ")
PLACE = re.compile(r'connection to server at "[^"]*", port \d+ failed: ')
"""What libpq puts around a reason, where it tells no address that was found by the name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionTarget:
    """Where a connection leads. Its repr shows no password."""

    parameters: Mapping[str, str] = field(repr=False)
    search_path: str | None = None
    """One schema, or several with commas between them."""
    variable: str | None = None
    """The environment variable that held the URL."""
    dropped: tuple[str, ...] = ()
    """Names of the URL's parameters that only another client reads."""
    taken_as: tuple[str, ...] = ()
    """What other words of the URL are taken for."""
    lock_timeout: timedelta | None = None
    """How long a transaction there waits for a lock that it names no time for; None: no limit."""

    @property
    def note(self) -> str | None:
        """What of the URL has no effect here, or another one, by name; None: nothing."""
        words = list(self.taken_as)
        if self.dropped:
            words.append(f"without effect here: {', '.join(self.dropped)}")
        return f"{self.variable or 'the URL'}: {'; '.join(words)}" if words else None

    @property
    def place(self) -> str:
        """Database, host and role in words, for messages."""
        host = self.parameters.get("host", "the local socket")
        port = self.parameters.get("port")
        database = self.parameters.get("dbname") or self.parameters.get("user", "(default)")
        role = self.parameters.get("user", "(default)")
        where = f"{host}:{port}" if port and not host.startswith("/") else host
        return f"database {database!r} at {where} as role {role!r}"


def connect(
    target: ConnectionTarget, *, timeout_seconds: int = CONNECT_TIMEOUT_SECONDS
) -> Connection:
    """Open an autocommitting connection without server-side prepared statements.

    Time-outs and keepalives in the URL override ours. Raises `CannotExamineError`
    with the place and the server's reason.
    """
    try:
        return _open(target, timeout_seconds)
    except (psycopg.Error, OSError) as error:
        reason = redactor.clean(_without_place(str(error)))
    except KeyboardInterrupt:
        reason = None
    # Raised out here: psycopg's frames hold the password, which --full-trace would print.
    if reason is None:
        raise KeyboardInterrupt
    url = f"the URL in {target.variable}" if target.variable else "its URL"
    raise CannotExamineError(
        f"cannot connect to {target.place}: {reason.rstrip('.?')}; {_advice(reason, url)}"
        f"{''.join(f' ({words})' for words in target.taken_as)}"
    )


def _without_place(words: str) -> str:
    """What psycopg and libpq say on one line, without the place, told already, and their hint."""
    words = " ".join(HINT.sub("", words).split()).removeprefix("connection failed: ")
    # Of several addresses each has its own reason.
    return words if len(PLACE.findall(words)) > 1 else PLACE.sub("", words)


def _advice(reason: str, url: str) -> str:
    """The next step where a connection was refused, by the words of libpq or the server."""
    if "does not match host name" in reason:
        return f"in {url}, name the host as its certificate does"
    if "certificate" in reason and ("verify" in reason or "root" in reason):
        return f"name its authority's certificate with sslrootcert in {url}"
    if "sslmode" in reason:
        return f"correct it in {url}: disable, allow, prefer, require, verify-ca or verify-full"
    if "SSL" in reason or "certificate" in reason:
        return f"correct sslmode in {url}, or have the server speak TLS"
    if "authentication" in reason or "password" in reason:
        return f"correct role and password in {url}, with special characters percent-encoded"
    if "does not exist" in reason:
        return f"correct it in {url}"
    return f"check {url}, and that the server runs and lets this machine in"


def _open(target: ConnectionTarget, timeout_seconds: int) -> Connection:
    # The time in the URL overrides ours; nobody waits longer for a name.
    seconds = int(target.parameters.get("connect_timeout", 0)) or timeout_seconds
    addresses = resolved(target.parameters, seconds=max(LEAST_SECONDS, seconds))
    # In one expression: a variable for it would be shown in a traceback with locals.
    connection = psycopg.connect(
        make_conninfo(
            **{
                "connect_timeout": str(timeout_seconds),
                **KEEPALIVE,
                **target.parameters,
                **addresses,
                # Before the first statement: a name in it may be of any script.
                "client_encoding": CLIENT_ENCODING,
            }
        ),
        autocommit=True,
        prepare_threshold=None,
    )
    open_sockets.keep(connection)
    return connection


def cancel(connection: Connection) -> None:
    """Ask the server to cancel what runs on a connection, from another thread.

    Nothing reports whether it worked, and through a dead link it cannot: whoever waits on the
    connection waits for the end of the statement, or until the link is cut.
    """
    with suppress(psycopg.Error):
        connection.cancel_safe(timeout=CANCEL_TIMEOUT_SECONDS)


ALL_ROWS = {"cursor_tuple_fraction": "1"}
"""Has a cursor's statement planned for all rows; by default PostgreSQL hurries to the first."""


@contextmanager
def read_only(
    connection: Connection,
    target: ConnectionTarget,
    *,
    statement_timeout: timedelta,
    row_security: bool = False,
    lock_timeout: timedelta | None = None,
    planner: Mapping[str, str] | None = None,
) -> Iterator[Connection]:
    """Run one short read-only, repeatable-read transaction in which hidden rows are an error.

    `row_security = off` makes PostgreSQL raise instead of silently leaving rows out. All settings
    are local, so that they hold through PgBouncer's transaction mode and end with the transaction;
    so are settings of the `planner`. Where the server has ended the session while nothing was
    asked, as its idle_session_timeout does, the connection is opened anew: nothing is lost by it.
    """
    silence = READ_STATEMENTS * statement_timeout.total_seconds() + SILENCE_SECONDS
    with (
        within(connection, silence),
        short_transaction(
            connection,
            target,
            mode=READ_ONLY,
            statement_timeout=statement_timeout,
            row_security=row_security,
            lock_timeout=lock_timeout,
            planner=planner,
        ),
    ):
        yield connection


@contextmanager
def short_transaction(
    connection: Connection,
    target: ConnectionTarget,
    *,
    mode: LiteralString = READ_COMMITTED,
    statement_timeout: timedelta,
    row_security: bool = False,
    lock_timeout: timedelta | None = None,
    idle_timeout: timedelta = IDLE_TIMEOUT,
    planner: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """A transaction under the limits that each of ours begins with, local to it.

    Not in psycopg's pipeline mode: the flush with which that ends makes the server wait for the
    next statement without `idle_timeout`.
    """
    limits = {
        "statement_timeout": _milliseconds(statement_timeout),
        "idle_in_transaction_session_timeout": _milliseconds(idle_timeout),
        "row_security": "on" if row_security else "off",
        **(planner or {}),
    }
    lock_timeout = lock_timeout or target.lock_timeout
    if lock_timeout is not None:
        limits["lock_timeout"] = _milliseconds(lock_timeout)
    try:
        try:
            begin(connection, target, limits, mode=mode)
        except psycopg.OperationalError:
            if mode != READ_ONLY or not _opened_again(connection, target):
                raise
            begin(connection, target, limits, mode=mode)
        yield
    except BaseException:
        with suppress(psycopg.Error):
            connection.rollback()
        raise
    connection.commit()


def begin(
    connection: Connection,
    target: ConnectionTarget,
    settings: Mapping[str, str],
    *,
    mode: LiteralString = READ_COMMITTED,
) -> None:
    """Begin a transaction under our settings and those given. Raises psycopg's errors."""
    connection.execute(
        begin_statement(
            mode,
            settings,
            schema=target.search_path,
            server_version=connection.info.server_version,
        )
    )


def _opened_again(connection: Connection, target: ConnectionTarget) -> bool:
    """Whether a connection that the server has ended leads there again.

    One that we have cut ourselves stays cut: somebody wants to end, or the server is silent.
    """
    if not connection.broken or open_sockets.was_cut(connection):
        return False
    try:
        fresh = connect(target, timeout_seconds=RECONNECT_TIMEOUT_SECONDS)
    except CannotExamineError:
        return False
    # Whoever holds the connection goes on with it, and with the types that it has learnt.
    connection.pgconn, fresh.pgconn = fresh.pgconn, connection.pgconn
    fresh.close()
    return True


def _milliseconds(duration: timedelta) -> str:
    return str(max(1, round(duration.total_seconds() * 1000)))
