"""A real PostgreSQL with pgvector for the whole session, and a fresh database for each test."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import psycopg
import pytest

from demo.postgres import create_database, drop_database, server

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The URL of an embedded server that runs as long as the tests."""
    with server() as url:
        yield url


@pytest.fixture
def database(server_url: str) -> Iterator[str]:
    """The URL of an empty database of its own with the extension vector, dropped afterwards."""
    name = f"test_{next(_numbers)}"
    url = create_database(server_url, name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
    yield url
    drop_database(server_url, name)
