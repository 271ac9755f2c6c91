"""Measures whole runs of pytest: their start, many tables, many tenants.

Run: python -m bench.runs. Builds databases of its own and removes them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import psycopg

from bench.figures import machine
from bench.many_tables import SETTINGS as MANY_TABLES
from bench.many_tables import build as build_many_tables
from demo.postgres import create_database, server

REPOSITORY = Path(__file__).resolve().parents[1]
ROUNDS = 3
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What a run of pytest took: seconds, and the most memory it held, in MB."""

    seconds: float
    megabytes: float
    last_line: str


def run(folder: Path, url: str, *arguments: str) -> Run:
    """One run from a folder that holds its integrity.toml."""
    command = [sys.executable, "-m", "pytest", str(REPOSITORY / "checks"), *arguments]
    started = perf_counter()
    with subprocess.Popen(  # noqa: S603 (this interpreter, on this checkout)
        command,
        cwd=folder,
        env={"OPENAI_API_KEY": "sk-of-a-benchmark", **os.environ, "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    return Run(
        seconds=perf_counter() - started,
        megabytes=usage.ru_maxrss / 1024,
        last_line=printed.strip().splitlines()[-1],
    )


def median(folder: Path, url: str, *arguments: str) -> Run:
    """The run of median length among `ROUNDS`, after one that warms the caches."""
    run(folder, url, *arguments)
    runs = [run(folder, url, *arguments) for _ in range(ROUNDS)]
    return sorted(runs, key=lambda one: one.seconds)[ROUNDS // 2]


def main() -> None:
    """Print what was measured."""
    print(f"{machine()}\n")
    print("| run | seconds | MB |\n| --- | --- | --- |")

    def tell(work: str, taken: Run) -> None:
        print(f"| {work} | {taken.seconds:.2f} | {taken.megabytes:.0f} |  {taken.last_line}")

    with server() as server_url, tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        url = create_database(server_url, "bench_runs")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
            connection.execute(ROWS.format(name="small", tenants=20, rows=15_000))
            for number in range(TABLES_OF_TENANTS):
                table = ROWS.format(name=f"wide_{number}", tenants=TENANTS, rows=TENANTS)
                connection.execute(table)
            connection.execute("ANALYZE")
        settings = folder / "integrity.toml"
        settings.write_text(ENTRY.format(name="small"), encoding="utf-8")
        tell("15,000 rows, 20 tenants", median(folder, url, "-q"))
        tell("--help", median(folder, url, "--help"))
        tell("a wrong option", median(folder, url, "--dry-run"))
        tell("no settings file", median(folder, url, "--config=none.toml"))
        entries = [ENTRY.format(name=f"wide_{number}") for number in range(TABLES_OF_TENANTS)]
        settings.write_text("".join(entries), encoding="utf-8")
        tell(f"{TENANTS:,} tenants in each of 5 tables", median(folder, url, "-q"))
        url = create_database(server_url, "bench_many_tables")
        build_many_tables(url, 1_000)
        settings.write_text(MANY_TABLES, encoding="utf-8")
        tell("1,000 tables by a pattern", median(folder, url, "-q"))


if __name__ == "__main__":
    main()
