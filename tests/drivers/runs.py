"""Makes whole runs of pytest over a small broken database, each in a process of its own."""

from __future__ import annotations

import itertools
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
from pgvector.psycopg import register_vector

from demo.embedding import MODEL, embed
from demo.incident import new_keys
from remediation.provider.keys import variable_name
from tests.drivers.starter import Starter
from tests.servers.endpoints import endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from demo.endpoint import Running
    from tests.drivers.starter import Started

REPOSITORY = Path(__file__).resolve().parents[2]

TENANTS = ("acme", "globex", "initech")
WITHOUT = ("-p", "no:hypothesispytest")
"""A plugin that no run needs, and that imports all of Hypothesis at its end; a cold run has it."""
SECONDS = 300.0
"""A bound for a run that hangs."""
ROWS = 12
"""Rows of each tenant; every third one lacks its embedding."""
MISSING = ROWS // 3

SETTINGS = """
[provider]
model = "text-embedding-3-small"
dimensions = 1536
batch_size = 3
concurrency = 2

[[tables]]
name = "public.insights"
tenant = '"tenantId"'
text = "body"
created_at = '"createdAt"'
"""

SCHEMA = """
CREATE TABLE public.insights (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "tenantId"  text,
    body        text,
    "createdAt" timestamptz NOT NULL DEFAULT '2026-03-03 02:00+00',
    embedding   vector(1536)
)
"""


def fill(url: str, tenants: Mapping[Any, int], *, missing: int = MISSING) -> None:
    """Create `insights` with rows of each tenant; the first `missing` of each have no embedding."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        register_vector(connection)
        with connection.cursor() as cursor:
            for tenant, rows in tenants.items():
                for number in range(rows):
                    text = f"text {number} of {tenant}"
                    vector = None if number < missing else embed(text, model=MODEL)
                    cursor.execute(
                        'INSERT INTO public.insights ("tenantId", body, embedding)'
                        " VALUES (%s, %s, %s)",
                        (tenant, text, vector),
                    )


def missing(url: str) -> dict[str | None, int]:
    """Rows without an embedding, by tenant."""
    with psycopg.connect(url) as connection:
        return dict(
            connection.execute(
                'SELECT "tenantId", count(*) FROM public.insights WHERE embedding IS NULL'
                " GROUP BY 1"
            ).fetchall()
        )


def stale(url: str) -> list[int]:
    """Ids of rows whose vector is not the one of their text."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT id, body, embedding::real[] FROM public.insights WHERE embedding IS NOT NULL"
        ).fetchall()
    return [
        key
        for key, body, vector in rows
        if not np.array_equal(np.asarray(vector, np.float32), embed(body))
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A run that ended: its exit status and everything it printed."""

    status: int
    output: str


@dataclass(kw_only=True, slots=True)
class Site:
    """A folder with settings from which pytest is run, an environment, and a provider."""

    pytester: pytest.Pytester
    monkeypatch: pytest.MonkeyPatch
    starter: Starter
    database: str
    keys: dict[str, str]
    provider: Running | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def repository(self) -> Path:
        return REPOSITORY

    @property
    def folder(self) -> Path:
        return self.pytester.path

    def settings(self, text: str) -> None:
        """Write integrity.toml."""
        (self.folder / "integrity.toml").write_text(text, encoding="utf-8")

    def use_keys(self, keys: Mapping[str, str]) -> None:
        """Put each tenant's key where the settings look for it."""
        for tenant, key in keys.items():
            name = variable_name("OPENAI_API_KEY__{tenant}", tenant)
            assert name is not None
            self.monkeypatch.setenv(name, key)

    def start(
        self,
        *arguments: str,
        checks: Sequence[str] = ("checks",),
        largest_file: int | None = None,
    ) -> Started:
        """Begin a run of pytest from this folder over the checks, or over some of their ids."""
        places = [str(REPOSITORY / check) for check in checks]
        return self._start(
            *places, "-p", "no:xdist", *arguments, largest_file=largest_file, with_ours=True
        )

    def run(self, *arguments: str, checks: Sequence[str] = ("checks",)) -> Outcome:
        """Run pytest from this folder over the checks, or over some of their ids."""
        return _ended(self.start(*arguments, checks=checks))

    def run_only(self, *arguments: str) -> Outcome:
        """Run pytest from this folder with these arguments and no others."""
        return _ended(self._start(*arguments))

    def _start(
        self, *arguments: str, largest_file: int | None = None, with_ours: bool = False
    ) -> Started:
        return self.starter.start(
            "pytest",
            *WITHOUT,
            *arguments,
            folder=self.folder,
            environment=os.environ,
            output=self.folder / f"output-{next(self._numbers)}.txt",
            largest_file=largest_file,
            with_ours=with_ours,
        )

    def run_cold(self, *arguments: str) -> Outcome:
        """The same from nothing, as a person starts it: no import is made before."""
        checks = str(REPOSITORY / "checks")
        result = self.pytester.run(
            sys.executable, "-m", "pytest", checks, *arguments, timeout=SECONDS
        )
        return Outcome(status=int(result.ret), output=result.stdout.str() + result.stderr.str())

    def report(self) -> Path:
        """The one incident report that was written."""
        (found,) = self.folder.glob("incidents/*/incident.html")
        return found

    def everything_written(self) -> Iterator[tuple[Path, str]]:
        """Every file below the folder, but for the settings that the test itself wrote."""
        for path in self.folder.rglob("*"):
            if path.is_file() and path.name not in {".env", "integrity.toml"}:
                yield path, path.read_text(encoding="utf-8", errors="replace")


def _ended(started: Started) -> Outcome:
    with started:
        return Outcome(status=started.wait(SECONDS), output=started.printed())


@pytest.fixture(scope="session")
def starter() -> Iterator[Starter]:
    """The warm process that whole runs are forked from."""
    with Starter() as warm:
        yield warm


@pytest.fixture
def site(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, database: str, starter: Starter
) -> Site:
    """A site over an empty database, without a provider."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "INTEGRITY_", "DATABASE_URL", "REMEDIATION_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    created = Site(
        pytester=pytester,
        monkeypatch=monkeypatch,
        starter=starter,
        database=database,
        keys=dict(new_keys()),
    )
    created.settings(SETTINGS)
    return created


@pytest.fixture
def provided_site(site: Site, tmp_path: Path) -> Iterator[Site]:
    """A site with a provider that knows the keys of `TENANTS`, and those keys in place."""
    keys = {tenant: site.keys[tenant] for tenant in TENANTS}
    with endpoint(keys, record=tmp_path / "sent.jsonl") as running:
        site.provider = running
        site.monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        site.use_keys(keys)
        yield site
