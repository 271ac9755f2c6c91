"""Measures an examination of thousands of small tables, step by step.

Builds a database of its own and removes it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter

import psycopg

from bench.figures import Table, scaled
from checks.database.connection import connect, read_only
from checks.database.connection_url import parse_url
from checks.database.server import read_server
from checks.examination.examination import Examination
from checks.examination.measuring import examine_targets
from checks.expectations import suites
from checks.expectations.measurements import Threshold
from checks.items.cases import cases_of
from checks.items.judgements import judge
from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.settings.integrity_toml import Settings, load_settings
from checks.targets.resolution import resolve
from demo.postgres import create_database, server

TABLES = 1_000
SUITES = 20
"""Tables from which the cost of a suite for each is carried over to all."""
ROWS = 20
SETTINGS = """
[[tables]]
name = "tenant_*.documents"
tenant_from = "schema"
text = "body"
dimensions = 8
"""

BUILD = """
DO $$ BEGIN
    FOR i IN {first}..{last} LOOP
        EXECUTE format('CREATE SCHEMA %1$I;
            CREATE TABLE %1$I.documents (id int PRIMARY KEY, body text, embedding vector(8));
            INSERT INTO %1$I.documents SELECT i, ''text '' || i,
                ARRAY[i, 1, 2, 3, 4, 5, 6, 7]::vector
                FROM generate_series(1, {rows}) AS i', 'tenant_' || i);
    END LOOP;
END $$
"""


def build(url: str, tables: int) -> None:
    """A schema with a table of `ROWS` rows for each tenant."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        for first in range(0, tables, 200):
            last = min(first + 200, tables) - 1
            connection.execute(BUILD.format(first=first, last=last, rows=ROWS))
        connection.execute("UPDATE tenant_7.documents SET embedding = NULL WHERE id <= 3")
        connection.execute("ANALYZE")


def settings() -> Settings:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "integrity.toml")
        path.write_text(SETTINGS, encoding="utf-8")
        return load_settings(path, row_checks=ROW_CHECK_NAMES)


def suite_per_table(examination: Examination, tables: int) -> float:
    """Seconds that a validation per table would take, measured on the first `tables`."""
    started = perf_counter()
    for table in examination.tables[:tables]:
        thresholds = [
            Threshold(check=check.name, min=check.min, severity=check.severity)
            for check in table.checks
        ]
        suites.validate(table.target.name, table.measurements, thresholds, segments_seen=1)
    return (perf_counter() - started) * len(examination.tables) / tables


def measured(scale: float = 1.0) -> Table:
    """The seconds of each step."""
    tables = scaled(TABLES, scale, SUITES)
    chosen = settings()
    timeout = chosen.database.statement_timeout
    with server() as server_url:
        url = create_database(server_url, "bench_many_tables")
        build(url, tables)
        place = parse_url(url, variable="DATABASE_URL")
        suites.expectation_suite("warm", [])  # the import of Great Expectations is paid once
        with connect(place) as connection:
            started = perf_counter()
            with read_only(connection, place, statement_timeout=timeout):
                facts = read_server(connection)
                targets = resolve(connection, chosen, facts)
            resolved = perf_counter()
            seen = examine_targets(connection, place, targets, timeout=timeout, tenants=None)
            scanned = perf_counter()
        examination = Examination(server=facts, tables=seen)
        cases = cases_of(examination)
        found = [f for case in cases for f in judge(case, examination).findings]
        judged = perf_counter()
        assert [finding.failing for finding in found] == [3]
        each = suite_per_table(examination, SUITES)
    steps = (
        (f"catalog and expressions of {tables:,} tables", resolved - started),
        ("scans, each in a transaction of its own, and one suite", scanned - resolved),
        (f"{len(cases):,} items judged", judged - scanned),
        (f"a suite per table, in place of one for all (from {SUITES} tables)", each),
    )
    rows = [(step, f"{seconds:.2f}") for step, seconds in steps]
    return Table(columns=("step", "seconds"), rows=rows)
