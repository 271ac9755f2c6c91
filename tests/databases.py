"""Real PostgreSQL servers with pgvector for the whole session, a fresh database for each test."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from demo.postgres import create_database, database_url, drop_database, server

if TYPE_CHECKING:
    from collections.abc import Iterator

OLD = "PostgreSQL 16.2, pgvector 0.6.2"
NEW = "PostgreSQL 18, pgvector 0.8"
SERVERS = (NEW, OLD) if importlib.util.find_spec("pgserver") else (NEW,)
"""The servers that the package index offers for this Python: the old one has no wheel for some."""

MEMORY = Path("/dev/shm")
LEAST_FREE = 4 * 1024**3
"""Bytes; a server keeps up to 1 GB of write-ahead log."""

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The URL of an embedded server that runs as long as the tests."""
    with _folder() as parent, server(parent / "d") as url:
        with psycopg.connect(url, autocommit=True) as connection:
            # Thousands of connections: a login shall not cost what keeps somebody from guessing.
            connection.execute("SET scram_iterations = 1")
            password = sql.Literal(urlsplit(url).password)
            connection.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(password))
        yield url


@pytest.fixture(scope="session")
def old_server_url() -> Iterator[str]:
    """The URL of one without halfvec, sparsevec and subvector(), which does not tell where a
    value is stored.
    """
    with old_server() as url:
        yield url


@pytest.fixture
def database(server_url: str) -> Iterator[str]:
    """The URL of an empty database of its own with the extension vector, dropped afterwards."""
    with _database(server_url) as url:
        yield url


@pytest.fixture
def old_database(old_server_url: str) -> Iterator[str]:
    """The same on the old server."""
    with _database(old_server_url) as url:
        yield url


@pytest.fixture
def bare_database(server_url: str) -> Iterator[str]:
    """The URL of an empty database without any extension."""
    with _database(server_url, extension=False) as url:
        yield url


@pytest.fixture(params=SERVERS)
def each_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with the extension vector on each server in turn."""
    server = request.getfixturevalue("old_server_url" if request.param == OLD else "server_url")
    with _database(server) as url:
        yield url


@contextmanager
def old_server() -> Iterator[str]:
    """Run PostgreSQL 16.2 on a Unix socket that only this user reaches; yield its URL."""
    with warnings.catch_warnings():
        # The package asks for a runtime directory at import, which containers lack; it warns.
        warnings.simplefilter("ignore")
        from pgserver.postgres_server import get_server
    with _folder() as parent:
        cluster = get_server(parent / "d", cleanup_mode="stop")
        try:
            with psycopg.connect(cluster.get_uri(), autocommit=True) as connection:
                for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                    connection.execute(f"ALTER SYSTEM SET {setting} = off")
                connection.execute("SELECT pg_reload_conf()")
            yield cluster.get_uri()
        finally:
            cluster.cleanup()


@contextmanager
def _folder() -> Iterator[Path]:
    """An empty folder, removed afterwards; in memory where there is plenty, as a database for each
    test is thousands of files.
    """
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > LEAST_FREE
    # A name of few characters: a socket's path may have about 100.
    with tempfile.TemporaryDirectory(
        prefix="pg-", dir=MEMORY if roomy else None, ignore_cleanup_errors=True
    ) as parent:
        yield Path(parent)


@contextmanager
def _database(server_url: str, *, extension: bool = True) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    if extension:
        with psycopg.connect(server_url, autocommit=True) as connection:
            # A copy of files takes half the time of the script that creates the extension.
            statement = "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy"
            identifiers = map(sql.Identifier, (name, _template(server_url)))
            connection.execute(sql.SQL(statement).format(*identifiers))
        url = database_url(server_url, name)
    else:
        url = create_database(server_url, name)
    yield url
    drop_database(server_url, name)


@functools.cache
def _template(server_url: str) -> str:
    """The database with the extension that others are copies of; nobody else may connect to it."""
    with psycopg.connect(create_database(server_url, "template"), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
    return "template"
