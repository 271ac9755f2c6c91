"""Measures the scan of a large table against the best SQL that we could write by hand.

Builds a database of its own and removes it.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psycopg

from bench.figures import Table, in_turn, scaled, timed
from checks.database.connection import connect, read_only
from checks.database.connection_url import parse_url
from checks.database.server import read_server
from checks.diagnosis.facet_statement import compile_facets
from checks.row_checks.applied import applied_checks
from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.scanning.scan import scan
from checks.settings.integrity_toml import load_settings
from checks.targets.resolution import resolve
from demo.postgres import create_database, server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import LiteralString

    from checks.database.connection import Connection
    from checks.row_checks.row_check import AppliedCheck
    from checks.settings.integrity_toml import Settings
    from checks.targets.target import Target

ROWS = 100_000
TENANTS = 100
DIMENSIONS = 1536
TAIL = DIMENSIONS // 8
MISSING = 997
"""Every such row lacks its embedding."""
SHARED = 5_000
"""One of so many rows holds the vector of the row before it."""
AT_ONCE = 5_000
LONGEST = 10_000
"""Characters of a text that are not many."""

SCHEMA = """
CREATE TABLE {name} (
    id bigint PRIMARY KEY,
    tenant text NOT NULL,
    title text NOT NULL,
    body text NOT NULL,
    embedding {type},
    created_at timestamptz NOT NULL
)
"""

SETTINGS = """
[[tables]]
name = "public.{name}"
tenant = "tenant"
text = "title || E'\\n' || body"
dimensions = {dimensions}
{created_at}
"""

BY_HAND = {
    "completeness": """
SELECT tenant, count(*), count(*) FILTER (WHERE embedding IS NULL AND body <> '') {times}
FROM {name} GROUP BY tenant
""",
    "completeness and degenerate": """
SELECT tenant, count(*), count(*) FILTER (WHERE missing), count(*) FILTER (WHERE norm = 0) {times}
FROM (
    SELECT tenant, created_at, embedding IS NULL AS missing,
           vector_norm(subvector(embedding, {first}, {tail})) AS norm
    FROM {name} OFFSET 0
) AS r GROUP BY tenant
""",
    "all checks": """
WITH r AS MATERIALIZED (
    SELECT id, tenant, created_at, embedding IS NULL AS missing,
           vector_norm(subvector(embedding, {first}, {tail})) AS norm
    FROM {name}
), again AS MATERIALIZED (
    SELECT t.tenant, t.title || t.body AS text, md5(vector_send(t.embedding)) AS vector
    FROM {name} AS t WHERE id IN (
        SELECT id FROM r WHERE norm IN (
            SELECT norm FROM r WHERE norm IS NOT NULL GROUP BY 1 HAVING count(*) > 1
        )
    )
), shared AS (
    SELECT tenant, count(*) FROM again
    WHERE vector IN (SELECT vector FROM again GROUP BY 1 HAVING min(text) <> max(text))
    GROUP BY tenant
)
SELECT r.tenant, count(*), count(*) FILTER (WHERE missing), count(*) FILTER (WHERE norm = 0),
       (SELECT count FROM shared WHERE shared.tenant = r.tenant) {times}
FROM r GROUP BY r.tenant
""",
}
TIMES = ", min(created_at) FILTER (WHERE {fails}), max(created_at) FILTER (WHERE {fails})"
CHECKS = {
    "completeness": ("completeness",),
    "completeness and degenerate": ("completeness", "degenerate"),
    "all checks": None,
}
DIAGNOSED = ("completeness", "uniqueness")
"""The checks that rows of the table fail."""


def build(url: str, name: str, kind: str, rows: int) -> None:
    """A table of random unit vectors, in TOAST, with a few rows that fail."""
    numbers = np.random.default_rng(1)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA.format(name=name, type=kind))
        started = datetime.now(UTC)
        columns = ["int8", "text", "text", "text", "bytea", "timestamptz"]
        with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY {name} FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.set_types(columns)
            header = np.array([DIMENSIONS, 0], dtype=">u2").tobytes()
            for first in range(0, rows, AT_ONCE):
                vectors = numbers.standard_normal((AT_ONCE, DIMENSIONS), dtype=np.float32)
                vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
                vectors[1::SHARED] = vectors[::SHARED]
                for number, vector in enumerate(vectors.astype(">f4"), start=first):
                    text = f"body of row {number}, " + "word " * 30
                    stored = None if number % MISSING == 5 else header + vector.tobytes()
                    tenant, title = f"tenant {number % TENANTS}", f"title {number}"
                    copy.write_row((number, tenant, title, text, stored, started))
        connection.execute(f"VACUUM ANALYZE {name}")


def settings_of(text: str) -> Settings:
    """The settings that a file with this text gives."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "integrity.toml")
        path.write_text(text, "utf-8")
        return load_settings(path, row_checks=ROW_CHECK_NAMES)


def _scans(url: str, name: str, *, dated: bool, kind: str) -> Iterator[tuple[str, ...]]:
    """The scan against the hand-written SQL, for each set of checks."""
    place = parse_url(url, variable="DATABASE_URL")
    created_at = 'created_at = "created_at"' if dated else ""
    settings = settings_of(SETTINGS.format(name=name, dimensions=DIMENSIONS, created_at=created_at))
    timeout = settings.database.statement_timeout
    with connect(place) as connection:
        with read_only(connection, place, statement_timeout=timeout):
            (target,) = resolve(connection, settings, read_server(connection))
        for work, names in CHECKS.items():
            checks = [c for c in applied_checks(target) if names is None or c.name in names]

            fails = "embedding IS NULL" if work == "completeness" else "missing"
            by_hand: LiteralString = BY_HAND[work].format(
                name=name,
                first=DIMENSIONS - TAIL + 1,
                tail=TAIL,
                times=TIMES.format(fails=fails) if dated else "",
            )
            ours, theirs = (
                timed(partial(_scan, connection, settings, target, checks)),
                timed(partial(_run, connection, by_hand)),
            )
            in_turn(ours, theirs, rounds=1)  # warms the caches
            seconds, by_hand_seconds = in_turn(ours, theirs)
            beside = ", `created_at`" if dated else ""
            yield _line(f"`{kind}`{beside}: {work}", seconds, by_hand_seconds)
        failing = [check for check in checks if check.name in DIAGNOSED]
        diagnosis = timed(partial(_diagnose, connection, settings, target, failing))
        seconds, by_hand_seconds = in_turn(diagnosis, theirs)
        yield _line(f"`{kind}`{beside}: diagnosis, by hand all checks", seconds, by_hand_seconds)


def _line(work: str, seconds: float, by_hand: float) -> tuple[str, ...]:
    return work, f"{seconds:.2f}", f"{by_hand:.2f}", f"{seconds / by_hand:.2f}"


def _scan(
    connection: Connection, settings: Settings, target: Target, checks: Sequence[AppliedCheck]
) -> None:
    timeout = settings.database.statement_timeout
    place = parse_url(connection.info.dsn, variable="DATABASE_URL")
    with read_only(connection, place, statement_timeout=timeout):
        scan(connection, target, checks)


def _diagnose(
    connection: Connection, settings: Settings, target: Target, checks: Sequence[AppliedCheck]
) -> None:
    statement = compile_facets(
        target, checks, tenants=None, longest=LONGEST, failing_only=False, keys=True
    )
    place = parse_url(connection.info.dsn, variable="DATABASE_URL")
    with read_only(connection, place, statement_timeout=settings.database.statement_timeout):
        connection.execute(statement).fetchall()


def _run(connection: Connection, statement: LiteralString) -> None:
    connection.execute(statement).fetchall()


def measured(scale: float = 1.0) -> Table:
    """The seconds of each scan, and of the SQL written by hand."""
    rows = scaled(ROWS, scale, AT_ONCE)
    lines: list[tuple[str, ...]] = []
    with server() as server_url:
        url = create_database(server_url, "bench_scan")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
        for name, kind in (("typed", f"vector({DIMENSIONS})"), ("untyped", "vector")):
            build(url, name, kind, rows)
            for dated in (False, True):
                lines += _scans(url, name, dated=dated, kind=kind)
    return Table(columns=("work", "seconds", "by hand", "ratio"), rows=lines)
