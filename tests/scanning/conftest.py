"""A table of hostile tenants, for the tests of a scan and of the queries it hands to people."""

from __future__ import annotations

import psycopg
import pytest

from tests.builders.tables import DOCS, HOSTILE_TENANTS, run


@pytest.fixture
def hostile(database: str) -> str:
    """A table with one failing and one whole row for each hostile tenant."""
    run(database, DOCS)
    with psycopg.connect(database, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO docs (id, tenant, body, embedding, archived) VALUES (%s, %s, 'x', %s, %s)",
            [
                (10 * i + j, tenant, vector, archived)
                for i, tenant in enumerate((None, *HOSTILE_TENANTS))
                for j, (vector, archived) in enumerate(
                    [(None, False), ("[1,2,3]", False), ("[1]", False), (None, True)]
                )
            ],
        )
    return database
