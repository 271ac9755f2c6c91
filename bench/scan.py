"""Measures one scan of a table with thousands of tenants against a query per tenant and check.

Run: python -m bench.scan [tenants] [rows per tenant]. Builds a database and removes it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from checks.database.connection import connect, read_only
from checks.database.connection_url import parse_url
from checks.database.server import read_server
from checks.examination import suites
from checks.examination.measuring import examine_target
from checks.examination.scan import scan
from checks.row_checks.applied import applied_checks
from checks.row_checks.built_in import ROW_CHECK_NAMES
from checks.row_checks.row_relation import rows_of
from checks.settings.integrity_toml import Settings, load_settings
from checks.targets.resolution import resolve
from demo.postgres import create_database, server

if TYPE_CHECKING:
    from checks.database.connection import Connection, ConnectionTarget
    from checks.targets.target import Target

TENANTS = 10_000
ROWS = 20
DIMENSIONS = 256
COMPARED = 200
"""Tenants that are asked one by one; their time is carried over to all."""

SETTINGS = f"""
[[tables]]
name = "public.documents"
tenant = "tenant"
text = "body"
dimensions = {DIMENSIONS}
model_column = "model"
updated_at = "updated_at"
embedded_at = "embedded_at"
"""

SCHEMA = f"""
CREATE TABLE documents (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text,
    body text,
    embedding vector({DIMENSIONS}),
    model text DEFAULT 'text-embedding-3-small',
    updated_at timestamptz DEFAULT '2026-01-01',
    embedded_at timestamptz DEFAULT '2026-01-02'
)
"""

FILL = """
INSERT INTO documents (tenant, body, embedding)
SELECT 'tenant ' || n %% %(tenants)s, 'text ' || n,
       CASE WHEN n %% 97 > 0
            THEN (array_fill(1::real, ARRAY[%(dimensions)s - 1]) || n::real)::vector
       END
FROM generate_series(1, %(rows)s) AS n
"""


def build(url: str, tenants: int, rows: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute(SCHEMA)
        amounts = {"tenants": tenants, "rows": tenants * rows, "dimensions": DIMENSIONS}
        connection.execute(FILL, amounts)
        connection.execute("CREATE INDEX ON documents (tenant)")
        connection.execute("VACUUM ANALYZE documents")


def settings() -> Settings:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "integrity.toml")
        path.write_text(SETTINGS, encoding="utf-8")
        return load_settings(path, row_checks=ROW_CHECK_NAMES)


def one_by_one(connection: Connection, target: Target, tenants: int) -> float:
    """Seconds that a query per tenant and check would take, by the first `COMPARED` tenants.

    `uniqueness` is left out: it is about all tenants at once.
    """
    checks = [check for check in applied_checks(target) if check.members is None]
    started = perf_counter()
    for number in range(COMPARED):
        for check in checks:
            connection.execute(
                sql.SQL("SELECT count(*) FROM {} AS r WHERE tenant = {} AND ({})").format(
                    rows_of(target), sql.Literal(f"tenant {number}"), check.predicate
                )
            )
    return (perf_counter() - started) * tenants / COMPARED


def scanned(
    connection: Connection, place: ConnectionTarget, target: Target, *, sets: bool
) -> float:
    """Seconds of one scan, with or without the check that is about sets of rows."""
    checks = [check for check in applied_checks(target) if sets or check.members is None]
    started = perf_counter()
    with read_only(connection, place, statement_timeout=settings().database.statement_timeout):
        scan(connection, target, checks)
    return perf_counter() - started


def main() -> None:
    """Print the seconds of both ways and their ratio."""
    tenants = int(sys.argv[1]) if len(sys.argv) > 1 else TENANTS
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else ROWS
    chosen = settings()
    timeout = chosen.database.statement_timeout
    suites.expectation_suite("warm", [])  # the import of Great Expectations is paid once
    with server() as server_url:
        url = create_database(server_url, "bench_scan")
        build(url, tenants, rows)
        place = parse_url(url, variable="DATABASE_URL")
        with connect(place) as connection:
            with read_only(connection, place, statement_timeout=timeout):
                (target,) = resolve(connection, chosen, read_server(connection))
            scanned(connection, place, target, sets=True)  # the cache is warm for both ways
            row_checks = scanned(connection, place, target, sets=False)
            every_check = scanned(connection, place, target, sets=True)
            started = perf_counter()
            table = examine_target(connection, place, target, timeout=timeout, tenants=None)
            examined = perf_counter() - started
            assert len(table.measurements) == tenants, table.error
            separate = one_by_one(connection, target, tenants)
    print(f"{tenants:,} tenants, {table.rows:,} rows, {len(table.checks)} checks")
    print(f"one scan, row checks          {row_checks:8.2f} s")
    print(f"one scan, uniqueness as well  {every_check:8.2f} s")
    print(f"scan, suite and verdicts      {examined:8.2f} s")
    print(f"a query per tenant and check  {separate:8.2f} s (from {COMPARED} tenants)")
    print(f"ratio                         {separate / row_checks:8.1f}")


if __name__ == "__main__":
    main()
