"""Distributed repairs of `docs`: the coordinator in this process, workers in others."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checks.database.connection_url import parse_url
from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.settings.integrity_toml import load_settings
from remediation.distributed import coordinator, parts
from remediation.distributed.distributed_repair import distributed
from remediation.distributed.part_repair import PartRepairs
from remediation.distributed.shared.schema import install
from remediation.distributed.worker import work
from tests.drivers.repairs import Done, environment, opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from checks.database.connection import ConnectionTarget
    from checks.settings.integrity_toml import Settings
    from remediation.distributed.sweeps import Sweeps
    from tests.servers.provider_server import ProviderServer

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = 60
TENANTS = ("acme", "globex", "initech")
PART_ROWS = 20


@dataclass(kw_only=True, slots=True)
class Site:
    """A folder with settings, and a database with the shared schema."""

    folder: Path
    database: str

    @property
    def place(self) -> ConnectionTarget:
        return parse_url(self.database, variable="DATABASE_URL")

    @property
    def settings(self) -> Settings:
        return load_settings(self.folder / "integrity.toml", row_checks=ROW_CHECK_NAMES)

    def write_settings(
        self,
        provider: ProviderServer,
        *,
        repair: str = "probe = 0",
        tables: Sequence[str] = ("public.docs",),
    ) -> None:
        declared = "".join(
            f'[[tables]]\nname = "{name}"\ntenant = "tenant"\ntext = "body"\n' for name in tables
        )
        (self.folder / "integrity.toml").write_text(
            f'[provider]\nbase_url = "{provider.base_url}"\ndimensions = 8\nbatch_size = 5\n'
            f'concurrency = 2\n[repair]\n{repair}\n[keys]\nenv = "KEY_{{tenant}}"\n' + declared
        )

    @contextmanager
    def _worker(self) -> Iterator[subprocess.Popen[str]]:
        """A worker process, killed at the end."""
        with subprocess.Popen(
            [sys.executable, "-m", "embedding_integrity", "worker"],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "DATABASE_URL": self.database,
                "NO_PROXY": "127.0.0.1",
                **environment(*TENANTS),
            },
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def workers(self, number: int) -> Iterator[list[subprocess.Popen[str]]]:
        """So many worker processes, all of which wait for jobs."""
        with ExitStack() as stack:
            started = [stack.enter_context(self._worker()) for _ in range(number)]
            for process in started:
                assert process.stderr is not None
                assert any("waiting for jobs" in line for line in process.stderr)
            yield started

    @contextmanager
    def worker_here(self, sweeps: Sweeps | None = None) -> Iterator[None]:
        """A worker on a thread of this process, ended in order at the end."""
        repairs = PartRepairs(
            settings=self.settings,
            environment={**os.environ, "DATABASE_URL": self.database, **environment(*TENANTS)},
            started_from=self.folder,
        )
        loop = asyncio.new_event_loop()
        working = loop.create_task(work(repairs, sweeps))
        thread = threading.Thread(target=loop.run_until_complete, args=(working,))
        thread.start()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(working.cancel)
            thread.join()
            loop.close()

    def repaired(self) -> Done:
        """Examine, plan, and have workers repair."""
        with opened(self.database, self.settings, keys=environment(*TENANTS)) as repair:
            plan = repair.plan()
            with distributed(repair):
                repair.run(plan, self.folder / "incidents", lambda _: None, lambda _: None)
            return Done(
                plan=plan,
                results=tuple(repair.results),
                after=repair.remeasure(),
                folder=self.folder / "incidents" / repair.run_id,
            )


@pytest.fixture
def shared_site(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site whose jobs are small."""
    monkeypatch.setattr(parts, "PART_ROWS", PART_ROWS)
    monkeypatch.setattr(coordinator, "STALLED_SECONDS", 4.0)
    found = Site(folder=tmp_path, database=database)
    install(found.place)
    return found
