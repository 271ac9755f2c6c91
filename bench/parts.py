"""Measures what it costs to look at a part of a table: at a sample, or at the failing rows alone.

Builds a database of its own and removes it.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from bench.figures import Table, in_turn, scaled, timed
from bench.scan import AT_ONCE, DIMENSIONS, SETTINGS, build, settings_of
from checks.database.connection import connect, read_only
from checks.database.connection_url import parse_url
from checks.database.server import read_server
from checks.row_checks.applied import applied_checks
from checks.scanning.part import part_of
from checks.scanning.sample import Sample
from checks.scanning.scan import scan
from checks.targets.resolution import resolve
from demo.postgres import create_database, server

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from checks.settings.integrity_toml import Settings

ROWS = 100_000
MANY, FEW, FAILING, TENANTS = 1_000_000, 10_000, 100, 5_000
LONG = """
CREATE TABLE {name} (
    id bigint PRIMARY KEY, tenant text, title text, body text, embedding vector(3)
);
INSERT INTO {name}
SELECT i, 'tenant ' || i % {tenants}, 'title ' || i, repeat('word ', 30),
       CASE WHEN i % {every} <> 0 THEN '[1,2,3]'::vector END
FROM generate_series(1, {rows}) AS i
"""
"""Of each length with as many rows without an embedding; the vectors stand in the rows."""


def scanned(
    url: str, settings: Settings, *, names: Collection[str] | None, sample: Sample | None = None
) -> Callable[[], object]:
    """A scan of the one table that the settings declare, ready to be timed.

    Its connection stays open to the end of the process.
    """
    place = parse_url(url, variable="DATABASE_URL")
    timeout = settings.database.statement_timeout
    connection = connect(place)
    with read_only(connection, place, statement_timeout=timeout):
        (target,) = resolve(connection, settings, read_server(connection))
    applied = [c for c in applied_checks(target) if names is None or c.name in names]
    part, checks = part_of(target, applied, sample=sample)

    def look() -> None:
        with read_only(connection, place, statement_timeout=timeout):
            scan(connection, target, checks, part=part)

    return look


def compared(
    work: str, ours: Callable[[], object], baseline: str, theirs: Callable[[], object]
) -> tuple[str, ...]:
    """The medians of work and baseline, timed in turn after one round that warms the caches."""
    sides = timed(ours), timed(theirs)
    in_turn(*sides, rounds=1)
    seconds, of_baseline = in_turn(*sides)
    return (
        work,
        f"{seconds:.2f}",
        baseline,
        f"{of_baseline:.2f}",
        f"{seconds / of_baseline:.2f}",
    )


def of_samples(url: str, rows: int) -> list[tuple[str, ...]]:
    """Samples against all rows; the smallest one shows what is left where no vector is read."""
    build(url, "sampled", f"vector({DIMENSIONS})", rows)
    settings = settings_of(SETTINGS.format(name="sampled", dimensions=DIMENSIONS, created_at=""))
    whole = partial(scanned, url, settings, names=None)
    return [
        compared(
            f"all checks, vectors of {percent} % of {rows:,} rows",
            whole(sample=Sample(percent=Decimal(percent), seed=date(2026, 1, 1).toordinal())),
            "of all rows",
            whole(),
        )
        for percent in ("0.0001", "1", "10")
    ]


def of_failing_rows(url: str, many: int) -> list[tuple[str, ...]]:
    """The same failing rows among many whole ones, and among few; and all of them counted."""
    looks = {}
    for name, rows in (("many", many), ("few", FEW)):
        declared = SETTINGS.format(name=name, dimensions=3, created_at="")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                LONG.format(name=name, rows=rows, every=rows // FAILING, tenants=TENANTS)
            )
            connection.execute(f"CREATE INDEX ON {name} (tenant) WHERE embedding IS NULL")
            connection.execute(f"VACUUM ANALYZE {name}")
        estimated = settings_of(declared + 'totals = "estimated"\n')
        looks[name] = scanned(url, estimated, names=None)
    counted = scanned(url, settings_of(declared.replace(".few", ".many")), names=("completeness",))
    work = f"{FAILING} failing rows of {many:,}, estimated totals"
    return [
        compared(work, looks["many"], f"as many of {FEW:,}", looks["few"]),
        compared(work, looks["many"], "counted totals", counted),
    ]


def measured(scale: float = 1.0) -> Table:
    """The seconds of each look at a part, and of what it is held against."""
    with server() as server_url:
        url = create_database(server_url, "bench_parts")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
        lines = of_samples(url, scaled(ROWS, scale, AT_ONCE))
        lines += of_failing_rows(url, scaled(MANY, scale, 2 * FEW))
    return Table(columns=("work", "seconds", "baseline", "seconds", "ratio"), rows=lines)
