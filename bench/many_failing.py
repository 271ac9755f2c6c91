"""Measures the memory and time of a dry run and a repair of few and of a million failing rows.

Builds a database of its own and removes it; the provider answers on loopback.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import psycopg

from bench.figures import Table, scaled
from bench.provider import provider
from bench.runs import run
from demo.postgres import create_database, drop_database, server

ROWS = (10_000, 1_000_000)
DIMENSIONS = 8
"""Tiny vectors: what is asked here is what grows with the number of rows, not with their size."""
TENANTS = 20

TABLE = """
CREATE EXTENSION vector;
CREATE TABLE documents (id bigint PRIMARY KEY, tenant text, body text, embedding vector(8));
"""
FILL = """
INSERT INTO documents (id, tenant, body)
SELECT n, 'tenant ' || n %% %(tenants)s, 'What document ' || n || ' says is of no importance.'
FROM generate_series(1, %(rows)s) AS n
"""
SETTINGS = """
[provider]
base_url = "{base_url}"
dimensions = 8
batch_size = 256

[keys]
fallback_env = "OPENAI_API_KEY"

[repair]
max_rows = 10000000
requests_per_minute = 1000000

[[tables]]
name = "public.documents"
tenant = "tenant"
text = "body"
"""


def measured(scale: float = 1.0) -> Table:
    """What each run took."""
    counts = [scaled(rows, scale, TENANTS) for rows in ROWS]
    lines = []
    with (
        server() as server_url,
        provider(0.0, dimensions=DIMENSIONS, different=max(counts)) as base_url,
        tempfile.TemporaryDirectory() as parent,
    ):
        folder = Path(parent)
        (folder / "integrity.toml").write_text(SETTINGS.format(base_url=base_url), encoding="utf-8")
        for rows in counts:
            url = create_database(server_url, "bench_many_failing")
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(TABLE)
                connection.execute(FILL, {"tenants": TENANTS, "rows": rows})
                connection.execute("VACUUM ANALYZE documents")
            for options in (["--remediate", "--dry-run"], ["--remediate"]):
                taken = run(folder, url, "-q", *options)
                lines.append(
                    (
                        f"{rows:,}",
                        f"`{' '.join(options)}`",
                        f"{taken.seconds:.1f}",
                        f"{taken.processor:.1f}",
                        f"{taken.megabytes:.0f}",
                    )
                )
            drop_database(server_url, "bench_many_failing")
    columns = ("failing rows", "run", "seconds", "processor seconds", "MB")
    return Table(columns=columns, rows=lines)
