"""Connections to PostgreSQL: the URL forms people have, and the read-only transaction of a scan.

Never prints a URL, and never relies on session state that a transaction pooler would lose.
"""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from checks.errors import CannotExamineError, ConnectionUrlError
from checks.redaction import redactor
from checks.refusals import reason_of as reason_of
from checks.wires import wires, within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

CONNECT_TIMEOUT_SECONDS = 10
RECONNECT_TIMEOUT_SECONDS = 4
"""Where a repair opens a connection anew: shorter than what a signal leaves it to end in order."""

CANCEL_TIMEOUT_SECONDS = 2.0
SILENCE_SECONDS = 30.0
"""Beyond the time-outs of its statements, until a transaction's link is taken for dead, and cut."""
READ_STATEMENTS = 3
"""Of one transaction that reads, that may each take as long as they are allowed."""

KEEPALIVE = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    # What was sent and is never acknowledged; in milliseconds.
    "tcp_user_timeout": "60000",
}
"""libpq's parameters that find a link which died without a word in a minute, not in hours."""

POOL_PARAMETERS = frozenset(
    {
        # Prisma's connection URL arguments that steer its own client, not PostgreSQL.
        "connection_limit",
        "pgbouncer",
        "pool_timeout",
        "single_use_connections",
        "socket_timeout",
        "sslaccept",
        "sslidentity",
        "statement_cache_size",
        "max_connection_lifetime",
        "max_idle_connection_lifetime",
        # asyncpg's, seen in SQLAlchemy URLs.
        "prepared_statement_cache_size",
    }
)

SSL_MODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})
"""What asyncpg calls `ssl`, and libpq `sslmode`."""

_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SCHEME = re.compile(r"postgres(?:ql)?(?:\+[a-z0-9]+)?")
_HOST = re.compile(r"[A-Za-z0-9_.:%-]+|/[^\s:@]+|@?[\w/.-]*")


TRANSIENT = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.QueryCanceled,
    psycopg.errors.DeadlockDetected,
)
"""What a scan may meet on a busy server or a replica; tried once more, then an error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionTarget:
    """Where a connection leads. Its repr shows no password."""

    parameters: Mapping[str, str] = field(repr=False)
    search_path: str | None = None
    variable: str | None = None
    """The environment variable that held the URL."""

    @property
    def place(self) -> str:
        """Database, host and role in words, for messages."""
        host = self.parameters.get("host", "the local socket")
        port = self.parameters.get("port")
        database = self.parameters.get("dbname") or self.parameters.get("user", "(default)")
        role = self.parameters.get("user", "(default)")
        where = f"{host}:{port}" if port and not host.startswith("/") else host
        return f"database {database!r} at {where} as role {role!r}"


def parse_url(url: str, *, variable: str) -> ConnectionTarget:
    """Understand libpq's, Prisma's and SQLAlchemy's forms of a connection URL.

    Raises `ConnectionUrlError`, which names the variable and shows nothing of its value.
    """
    url = url.strip()
    _register_password(url)
    target = None
    try:
        if "\0" in url:
            # libpq would take what stands before it for the whole.
            raise ValueError
        target = _url_form(url) if _HAS_SCHEME.match(url) else _keyword_form(url)
    except (psycopg.Error, ValueError):
        pass
    if target is not None:
        for name in ("password", "sslpassword"):
            redactor.add(target.parameters.get(name))
        return replace(target, variable=variable)
    # Raised out here so that no traceback carries libpq's error, which repeats what it was given.
    raise ConnectionUrlError(
        f"the value of {variable} is not a PostgreSQL connection URL: expected"
        " postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters"
        " percent-encoded; the value is not shown, as it may hold a password"
    )


def _url_form(url: str) -> ConnectionTarget:
    """Raises ValueError or psycopg's errors for what is no such URL, or may be read in two ways."""
    parts = urlsplit(url)
    if not _SCHEME.fullmatch(parts.scheme) or parts.fragment:
        raise ValueError
    # An @ behind the host is the end of a password that holds an unencoded / or ?, most likely;
    # what stands before it would be taken for a database, and shown.
    if "@" in parts.path or ("@" in parts.query and "@" not in parts.netloc):
        raise ValueError
    kept, search_path = [], None
    # Pieces are passed on as they were written: libpq decodes %20, but leaves + as it is.
    for piece in filter(None, parts.query.split("&")):
        name, _, value = piece.partition("=")
        if name == "schema":
            search_path = unquote(value) or None
        elif name == "ssl" and value in SSL_MODES:
            kept.append(f"sslmode={value}")
        elif name not in POOL_PARAMETERS:
            kept.append(piece)
    plain = f"postgresql://{parts.netloc}{parts.path}" + ("?" + "&".join(kept) if kept else "")
    return ConnectionTarget(parameters=_sane(conninfo_to_dict(plain)), search_path=search_path)


def _keyword_form(words: str) -> ConnectionTarget:
    return ConnectionTarget(parameters=_sane(conninfo_to_dict(words)))


def _register_password(url: str) -> None:
    """Register what may be the password before anything can go wrong with the value."""
    credentials = url.partition("://")[2].rpartition("@")[0]
    password = credentials.partition(":")[2]
    redactor.add(password)
    redactor.add(unquote(password))
    for word in re.findall(r"password\s*=\s*('(?:[^'\\]|\\.)*'|[^\s&]+)", url):
        redactor.add(word.strip("'"))


def _sane(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Refuse what libpq would repeat in an error: a port or host that may be half a password."""
    words = {name: str(value) for name, value in parameters.items() if value is not None}
    ports = words.get("port", "").split(",")
    hosts = words.get("host", "").split(",")
    if not all(
        port == "" or (port.isascii() and port.isdecimal() and 0 < int(port) < 65536)
        for port in ports
    ):
        raise ValueError
    if not all(_HOST.fullmatch(host) for host in hosts):
        raise ValueError
    if any(character < " " for value in words.values() for character in value):
        raise ValueError
    return words


def connect(
    target: ConnectionTarget, *, timeout_seconds: int = CONNECT_TIMEOUT_SECONDS
) -> Connection:
    """Open an autocommitting connection without server-side prepared statements.

    What the URL says of time-outs and keepalives comes before ours. Raises `CannotExamineError`
    with the place and the server's reason.
    """
    try:
        return _open(target, timeout_seconds)
    except psycopg.Error as error:
        reason = redactor.clean(" ".join(str(error).split()))
    except KeyboardInterrupt:
        reason = None
    # Raised out here: psycopg's frames hold the password, which --full-trace would print.
    if reason is None:
        raise KeyboardInterrupt
    raise CannotExamineError(
        f"cannot connect to {target.place}: {reason.rstrip('.?')}; check"
        f" {f'the URL in {target.variable}' if target.variable else 'its URL'}, and that the server"
        " runs and lets this machine in"
    )


def _open(target: ConnectionTarget, timeout_seconds: int) -> Connection:
    # In one expression: a name of its own would stand in a traceback that shows locals.
    connection = psycopg.connect(
        make_conninfo(
            **{"connect_timeout": str(timeout_seconds), **KEEPALIVE, **target.parameters}
        ),
        autocommit=True,
        prepare_threshold=None,
    )
    wires.keep(connection)
    return connection


def cancel(connection: Connection) -> None:
    """Ask the server to cancel what runs on a connection, from another thread.

    Nobody is told whether it did, and through a dead link it cannot: who waits on the connection
    is let go by its statement's end, or by its link being cut.
    """
    with suppress(psycopg.Error):
        connection.cancel_safe(timeout=CANCEL_TIMEOUT_SECONDS)


@contextmanager
def read_only(
    connection: Connection,
    target: ConnectionTarget,
    *,
    statement_timeout: timedelta,
    row_security: bool = False,
    lock_timeout: timedelta | None = None,
) -> Iterator[Connection]:
    """One short read-only, repeatable-read transaction in which hidden rows are an error.

    `row_security = off` makes PostgreSQL raise instead of silently leaving rows out. All limits are
    SET LOCAL, so that they hold through PgBouncer's transaction mode and end with the transaction.
    """
    silence = READ_STATEMENTS * statement_timeout.total_seconds() + SILENCE_SECONDS
    with within(connection, silence), connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        set_local(
            connection,
            target,
            statement_timeout=statement_timeout,
            row_security=row_security,
            lock_timeout=lock_timeout,
        )
        yield connection


def set_local(
    connection: Connection,
    target: ConnectionTarget,
    *,
    statement_timeout: timedelta,
    row_security: bool = False,
    lock_timeout: timedelta | None = None,
) -> None:
    """The settings every transaction of ours begins with, local to it."""
    limits = {
        "statement_timeout": _milliseconds(statement_timeout),
        "row_security": "on" if row_security else "off",
        # Columns without a zone are read as UTC, as the ORMs that make them write them.
        "TimeZone": "UTC",
    }
    if lock_timeout is not None:
        limits["lock_timeout"] = _milliseconds(lock_timeout)
    # One statement: thousands of tables are each read in a transaction of their own.
    calls = ", ".join(["pg_catalog.set_config(%s, %s, true)"] * len(limits))
    connection.execute(f"SELECT {calls}", [part for limit in limits.items() for part in limit])
    if target.search_path is not None:
        connection.execute(
            sql.SQL("SET LOCAL search_path TO {}, public").format(
                sql.Identifier(target.search_path)
            )
        )


def _milliseconds(duration: timedelta) -> str:
    return str(max(1, round(duration.total_seconds() * 1000)))
