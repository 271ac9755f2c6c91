"""After the migration the demo's incident is refused, seen at once, or mended within seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from checks.database.connection_url import parse_url
from checks.exit_status import ExitStatus
from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.settings.integrity_toml import load_settings
from demo import incident
from remediation.distributed.shared.schema import install
from tests.builders.tables import rows
from tests.drivers.migrations import migrated
from tests.drivers.runs import REPOSITORY
from tests.servers.endpoints import endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SETTINGS = REPOSITORY / "demo" / "integrity.toml"
SECONDS = 90.0
"""A bound for the sweep that mends; it begins within ten seconds."""

COVERAGE = """
SELECT table_name, sum(missing)::int, sum(stale)::int FROM public.embedding_integrity
GROUP BY table_name ORDER BY table_name
"""
OUTAGE = """
INSERT INTO public.workflow_insights (id, "tenantId", title, kind, source, "createdAt", "updatedAt")
SELECT 'again' || n, 'globex', 'how to do without ' || n, 'overview', 'import', made, made
FROM generate_series(1, 382) AS n, (SELECT now() AT TIME ZONE 'UTC' - interval '1 hour') AS t (made)
"""
PROTOTYPE = """
INSERT INTO public.support_macros (id, "tenantId", title, kind, source, "updatedAt", embedding)
VALUES ('again', 'hooli', 'a macro', 'overview', 'chat', now(), array_fill(0.1, ARRAY[768])::vector)
"""
EDIT = """
UPDATE public.workflow_insights SET title = title || ' (edited)'
WHERE id IN (SELECT id FROM public.workflow_insights
    WHERE "tenantId" = 'acme' AND embedding IS NOT NULL AND "deletedAt" IS NULL
    AND "createdAt" < now() AT TIME ZONE 'UTC' - interval '1 hour' ORDER BY id LIMIT 5)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Incident:
    """The demo's database, once repaired and migrated, and what a process needs to work on it."""

    url: str
    folder: Path
    environment: Mapping[str, str]

    def run(self, *arguments: str) -> int:
        """The exit status of pytest over it."""
        command = [sys.executable, "-m", "pytest", str(REPOSITORY / "checks"), "-q", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL, check=False
        )
        return done.returncode

    def coverage(self) -> list[tuple[Any, ...]]:
        """Missing and stale rows of each table, as the view has them."""
        return rows(self.url, COVERAGE)


@pytest.fixture
def mended(database: str, tmp_path: Path) -> Iterator[Incident]:
    with psycopg.connect(database) as connection:
        incident.build(connection)
    keys = incident.new_keys()
    with endpoint(keys) as provider:
        found = Incident(
            url=database,
            folder=tmp_path,
            environment=os.environ
            | {
                "PYTHONPATH": str(REPOSITORY),
                "DATABASE_URL": database,
                "REMEDIATION_DATABASE_URL": database,
                "OPENAI_BASE_URL": provider.base_url,
                "INTEGRITY_CONFIG": str(SETTINGS),
                "NO_PROXY": "127.0.0.1",
            }
            | {f"OPENAI_API_KEY__{tenant.upper()}": key for tenant, key in keys.items()},
        )
        assert found.run("--remediate") == ExitStatus.HOLDS
        migrated(database, load_settings(SETTINGS, row_checks=ROW_CHECK_NAMES))
        yield found


@pytest.mark.thorough
def test_the_incident_comes_again_only_to_be_refused_seen_and_mended(mended: Incident) -> None:
    whole = [("public.support_macros", 0, None), ("public.workflow_insights", 0, None)]
    assert mended.coverage() == whole
    with psycopg.connect(mended.url, autocommit=True) as application:
        with pytest.raises(psycopg.errors.CheckViolation):
            application.execute(PROTOTYPE)
        application.execute(OUTAGE)
        assert application.execute(EDIT).rowcount == 5
    assert mended.coverage()[1] == ("public.workflow_insights", 382 + 5, None)
    assert mended.run() == ExitStatus.FAILS
    install(parse_url(mended.url, variable="DATABASE_URL"))
    sweeping = [sys.executable, "-m", "embedding_integrity", "worker", "--sweep=10 seconds"]
    with subprocess.Popen(
        [*sweeping, "--max-cost-per-day=1"], cwd=mended.folder, env=mended.environment
    ) as worker:
        try:
            until = time.monotonic() + SECONDS
            while mended.coverage() != whole and time.monotonic() < until:
                time.sleep(0.2)
        finally:
            worker.terminate()
    assert mended.coverage() == whole
    assert mended.run() == ExitStatus.HOLDS
