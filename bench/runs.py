"""Measures whole runs of pytest: their start, many tables, many tenants.

Builds databases of its own and removes them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench.figures import Table, scaled
from bench.many_tables import SETTINGS as MANY_TABLES_SETTINGS
from bench.many_tables import TABLES as MANY_TABLES
from bench.many_tables import build as build_many_tables
from demo.postgres import create_database, server

CHECKS = Path(__file__).resolve().parents[1] / "checks"
ROUNDS = 3
ROWS_OF_ONE_TABLE = 15_000
TENANTS = 10_000
TABLES_OF_TENANTS = 5

ROWS = """
CREATE TABLE {name} (
    id bigint PRIMARY KEY,
    tenant text NOT NULL,
    body text NOT NULL,
    embedding vector(64),
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO {name} (id, tenant, body, embedding)
SELECT n, 'tenant ' || n % {tenants}, 'text ' || n,
       CASE WHEN n % 1000 > 0 THEN (
           SELECT array_agg(sin(n * g)) FROM generate_series(1, 64) AS g
       )::real[]::vector END
FROM generate_series(1, {rows}) AS n;
"""

ENTRY = """
[[tables]]
name = "public.{name}"
tenant = "tenant"
text = "body"
created_at = "created_at"
dimensions = 64
"""


WATCH = """
import json, os, subprocess, sys, time
begun = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, _, usage = os.wait4(process.pid, 0)
print(json.dumps({
    "seconds": time.perf_counter() - begun,
    "processor": usage.ru_utime + usage.ru_stime,
    "megabytes": usage.ru_maxrss / 1024,
}))
"""
"""Stands between us and each run: as Linux counts, a process has held what the one that started it
held."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What a run of pytest took: seconds, those of processors, and the most memory, in MB."""

    seconds: float
    processor: float
    megabytes: float


def run(folder: Path, url: str, *arguments: str, tests: Path = CHECKS) -> Run:
    """One run from a folder that holds its integrity.toml."""
    command = [sys.executable, "-m", "pytest", str(tests), *arguments]
    told = subprocess.run(  # noqa: S603 (this interpreter, on this checkout)
        [sys.executable, "-I", "-c", WATCH, *command],
        cwd=folder,
        env={
            "OPENAI_API_KEY": "sk-of-a-benchmark",
            **os.environ,
            "DATABASE_URL": url,
            # Compiled once, by the run that warms the caches, as it is where the tool is used.
            "PYTHONDONTWRITEBYTECODE": "",
        },
        stdout=subprocess.PIPE,
        check=True,
    )
    return Run(**json.loads(told.stdout))


def median(folder: Path, url: str, *arguments: str, tests: Path = CHECKS) -> Run:
    """The run of median length among `ROUNDS`, after one that warms the caches."""
    run(folder, url, *arguments, tests=tests)
    runs = [run(folder, url, *arguments, tests=tests) for _ in range(ROUNDS)]
    return sorted(runs, key=lambda one: one.seconds)[ROUNDS // 2]


def measured(scale: float = 1.0) -> Table:
    """Seconds, processor seconds and memory of each run."""
    rows, tenants = scaled(ROWS_OF_ONE_TABLE, scale, 100), scaled(TENANTS, scale, 600)
    tables = scaled(MANY_TABLES, scale, 8)
    lines = []

    def tell(work: str, taken: Run) -> None:
        lines.append(
            (work, f"{taken.seconds:.2f}", f"{taken.processor:.2f}", f"{taken.megabytes:.0f}")
        )

    with server() as server_url, tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        url = create_database(server_url, "bench_runs")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
            connection.execute(ROWS.format(name="small", tenants=20, rows=rows))
            for number in range(TABLES_OF_TENANTS):
                table = ROWS.format(name=f"wide_{number}", tenants=tenants, rows=tenants)
                connection.execute(table)
            connection.execute("ANALYZE")
        settings = folder / "integrity.toml"
        (folder / "test_nothing.py").write_text("def test_nothing(): pass\n", encoding="utf-8")
        settings.write_text(ENTRY.format(name="small"), encoding="utf-8")
        tell("baseline: pytest alone, one empty test", median(folder, url, "-q", tests=folder))
        tell(f"{rows:,} rows of 20 tenants", median(folder, url, "-q"))
        tell("`--help`", median(folder, url, "--help"))
        tell("a wrong option", median(folder, url, "--dry-run"))
        tell("a settings file that is not there", median(folder, url, "--config=none.toml"))
        entries = [ENTRY.format(name=f"wide_{number}") for number in range(TABLES_OF_TENANTS)]
        settings.write_text("".join(entries), encoding="utf-8")
        tell(f"{tenants:,} tenants in each of 5 tables", median(folder, url, "-q"))
        url = create_database(server_url, "bench_many_tables")
        build_many_tables(url, tables)
        settings.write_text(MANY_TABLES_SETTINGS, encoding="utf-8")
        tell(f"{tables:,} tables of 20 rows by a pattern", median(folder, url, "-q"))
    return Table(columns=("run", "seconds", "processor seconds", "MB"), rows=lines)
