"""A table of a few thousand random vectors with real ANN indexes, and the settings for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg

from checks.settings.integrity_toml import Settings
from tests.builders.tables import run

if TYPE_CHECKING:
    from collections.abc import Sequence

DIMENSIONS = 24
ROWS = 3_000
HNSW = "CREATE INDEX items_embedding ON items USING hnsw (embedding vector_cosine_ops)"
IVFFLAT = (
    "CREATE INDEX items_embedding ON items USING ivfflat (embedding vector_cosine_ops)"
    " WITH (lists = 60)"
)


def fill(
    url: str,
    tenants: Sequence[str] = ("acme",),
    *,
    indexes: Sequence[str] = (),
    before: Sequence[str] = (),
    clusters: int | None = None,
) -> None:
    """A table of random vectors, in clusters or everywhere; its tenants take turns.

    `before` are the indexes that are made while it is empty.
    """
    run(
        url,
        "CREATE TABLE items (id int PRIMARY KEY, tenant text, body text, archived boolean"
        f" DEFAULT false, embedding vector({DIMENSIONS}))",
        *before,
    )
    random = np.random.default_rng(7)
    vectors = random.standard_normal((ROWS, DIMENSIONS))
    if clusters is not None:
        centres = random.standard_normal((clusters, DIMENSIONS))
        vectors = centres[np.arange(ROWS) % clusters] + 0.4 * vectors
    with (
        psycopg.connect(url, autocommit=True) as connection,
        connection.cursor() as cursor,
        cursor.copy("COPY items (id, tenant, body, embedding) FROM STDIN") as copy,
    ):
        for number, vector in enumerate(vectors):
            literal = f"[{','.join(f'{x:.6f}' for x in vector)}]"
            copy.write_row((number, tenants[number % len(tenants)], f"text {number}", literal))
    run(url, *indexes, "ANALYZE items")


def chosen(**table: Any) -> Settings:
    """Settings for that table."""
    entry = {"name": "items", "text": "body", **table}
    return Settings.model_validate(
        {
            "provider": {"dimensions": DIMENSIONS},
            "database": {"statement_timeout": "1min"},
            "tables": [entry],
        }
    )


def always(url: str, *settings: str) -> None:
    """Settings of the server for every later connection to this database."""
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    run(url, *(f'ALTER DATABASE "{name}" SET {setting}' for setting in settings))
