"""Measures how near the time that a plan announces comes to what the repair then takes.

Builds a database and removes it; provider and server run on this machine, each in a process of its
own.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import openai
import psycopg
from pgvector.psycopg import register_vector

from bench.figures import Table, scaled
from bench.provider import provider
from bench.repair import KEY, ROWS, SCHEMA, TENANTS, Way, asked, emptied, settings_of
from checks.database.connection_url import parse_url
from checks.examination.examination import examine
from checks.examination.selection import Selection
from demo.postgres import create_database, drop_database, server
from remediation.run.opening import open_repair
from remediation.run.repair_run import new_run_id

if TYPE_CHECKING:
    from remediation.table_repair.planning.estimate import Estimate
    from remediation.table_repair.planning.plan import TablePlan

INDEXED_ROWS = 2_000
HEALTHY = 3
"""Rows of each tenant that have an embedding, for the probe."""
WAYS = (
    Way(requests=8, texts=50, latency=0.15),
    Way(requests=16, texts=256, latency=0.15),
    Way(requests=8, texts=50, latency=0.0, up_to=1.0),
    Way(requests=16, texts=256, latency=0.0, up_to=1.0),
)


@dataclass(kw_only=True, slots=True)
class Timed:
    """The seconds that were announced by plan and probe, and those that were taken from there."""

    planned: float = 0.0
    took: float = 0.0
    by_probe: float = 0.0
    took_from_probe: float = 0.0
    _begun: float = field(default_factory=perf_counter)

    def probed(self, _: TablePlan, estimate: Estimate) -> None:
        self.by_probe, self.took_from_probe = estimate.seconds, perf_counter()

    def ended(self) -> None:
        now = perf_counter()
        self.took, self.took_from_probe = now - self._begun, now - self.took_from_probe


def repaired(url: str, base_url: str, way: Way, reports: Path) -> Timed:
    """One plan and its repair; what earlier ones took is in the folder of reports."""
    settings = settings_of(base_url, way)
    place = parse_url(url, variable="DATABASE_URL")
    with open_repair(
        run_id=new_run_id(),
        settings=settings,
        environment={"KEY": KEY},
        examination=examine(place, settings, Selection()),
        read_place=place,
        tenants=None,
        report_directory=reports,
    ) as work:
        plan = work.plan()
        times = Timed(planned=plan.seconds)
        work.run(plan, reports, lambda _: None, on_probed=times.probed)
        times.ended()
    return times


def heal_some(url: str, base_url: str) -> None:
    """Give the first rows of each tenant the embedding that the provider has for their texts."""
    with (
        psycopg.connect(url, autocommit=True) as connection,
        openai.OpenAI(base_url=base_url, api_key=KEY) as client,
    ):
        register_vector(connection)
        rows = connection.execute(
            "SELECT id, body FROM documents WHERE id <= %s", (HEALTHY * TENANTS,)
        ).fetchall()
        vectors = asked(client, [body for _, body in rows])
        for (number, _), vector in zip(rows, vectors, strict=True):
            connection.execute(
                "UPDATE documents SET embedding = %s WHERE id = %s", (vector, number)
            )


def measured(scale: float = 1.0) -> Table:
    """Announced and taken, for a first repair and for the second, whose plan rests on the first."""
    lines = []
    least = 2 * HEALTHY * TENANTS
    with server() as server_url:
        url = create_database(server_url, "bench_plan_time")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SCHEMA)
        for indexed, most in ((False, ROWS), (True, INDEXED_ROWS)):
            rows = scaled(most, scale, least)
            for way in WAYS:
                with (
                    provider(way.latency, way.up_to) as base_url,
                    tempfile.TemporaryDirectory() as reports,
                ):
                    for known in ("nothing known", "after a run"):
                        emptied(url, rows=rows, indexed=indexed)
                        heal_some(url, base_url)
                        one = repaired(url, base_url, way, Path(reports))
                        lines.append(
                            (
                                f"{way}, {rows:,} rows{', HNSW' if indexed else ''}, {known}",
                                f"{one.planned:.1f}",
                                f"{one.took:.1f}",
                                f"{one.planned / one.took:.2f}",
                                f"{one.by_probe / one.took_from_probe:.2f}",
                            )
                        )
        drop_database(server_url, "bench_plan_time")
    columns = ("", "announced, s", "taken, s", "ratio", "ratio from the probe on")
    return Table(columns=columns, rows=lines)
