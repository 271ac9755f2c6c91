"""Measures what a repair's second pass costs, by the share of rows that were repaired.

Builds a database of its own and removes it; the provider answers on loopback.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import psycopg
from pgvector.psycopg import register_vector

from bench.figures import Table, scaled
from bench.provider import DIMENSIONS, provider
from checks.database.connection_url import parse_url
from checks.examination.examination import examine
from checks.examination.selection import Selection
from checks.settings.integrity_toml import Settings
from demo.postgres import create_database, drop_database, server
from remediation.run.opening import open_repair
from remediation.run.repair_run import new_run_id

ROWS = 200_000
SHARES = (0.01, 0.1)
AT_ONCE = 5_000

SCHEMA = f"""
CREATE EXTENSION vector;
CREATE TABLE documents (
    id bigint PRIMARY KEY, tenant text, body text, embedding vector({DIMENSIONS})
)
"""


def build(url: str, rows: int) -> None:
    """A table of healthy rows of 100 tenants."""
    numbers = np.random.default_rng(3)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        register_vector(connection)
        with (
            connection.cursor() as cursor,
            cursor.copy("COPY documents FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.set_types(["int8", "text", "text", "vector"])
            for start in range(0, rows, AT_ONCE):
                vectors = numbers.standard_normal((AT_ONCE, DIMENSIONS), dtype=np.float32)
                for number, vector in enumerate(vectors, start=start):
                    copy.write_row((number, f"tenant {number % 100}", f"text {number}", vector))
        connection.execute("VACUUM ANALYZE documents")
        connection.execute("CHECKPOINT")


def second_pass(url: str, base_url: str, share: float) -> tuple[float, float, int]:
    """Seconds of the first pass and of the second, and the rows repaired in between."""
    settings = Settings.model_validate(
        {
            "provider": {"base_url": base_url, "batch_size": 256},
            "keys": {"fallback_env": "KEY"},
            "repair": {"max_rows": 10_000_000},
            "tables": [{"name": "public.documents", "tenant": "tenant", "text": "body"}],
        }
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "UPDATE documents SET embedding = NULL WHERE id %% %s = 0", (round(1 / share),)
        )
    place = parse_url(url, variable="DATABASE_URL")
    examine(place, settings, Selection())  # warms the caches
    begun = perf_counter()
    examination = examine(place, settings, Selection())
    first = perf_counter() - begun
    with (
        tempfile.TemporaryDirectory() as folder,
        open_repair(
            run_id=new_run_id(),
            settings=settings,
            environment={"KEY": "sk-of-a-benchmark"},
            examination=examination,
            read_place=place,
            tenants=None,
        ) as repair,
    ):
        repair.run(repair.plan(), Path(folder), lambda _: None)
        begun = perf_counter()
        again = repair.remeasure()
        second = perf_counter() - begun
        assert again.table("public.documents").failing("completeness") == 0
        return first, second, repair.results[0].account.selected


def measured(scale: float = 1.0) -> Table:
    """Seconds of both passes, and their ratio."""
    rows, lines = scaled(ROWS, scale, AT_ONCE), []
    with server() as server_url, provider(0.0, different=rows // 8) as base_url:
        url = create_database(server_url, "bench_second_pass")
        build(url, rows)
        for share in SHARES:
            first, second, repaired = second_pass(url, base_url, share)
            ratio = f"{second / first:.2f}"
            lines.append((f"{repaired:,} of {rows:,}", f"{first:.2f}", f"{second:.2f}", ratio))
        drop_database(server_url, "bench_second_pass")
    return Table(columns=("rows repaired", "first pass, s", "second pass, s", "ratio"), rows=lines)
