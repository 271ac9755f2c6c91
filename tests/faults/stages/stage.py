"""A table of several tenants with failing rows, a folder with settings, and whole runs over them.

Runs are `python -m pytest checks --remediate` in processes of their own, as a person starts them.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg

from demo.postgres import create_database, drop_database
from tests.drivers.repairs import environment, key_of
from tests.faults.stages.rows import snapshot
from tests.faults.stages.shapes import AUDIT, MORE, SETTINGS, TABLES
from tests.servers.provider_server import vector_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    import numpy as np

    from tests.drivers.starter import Starter
    from tests.faults.killer import Killer
    from tests.faults.stages.rows import Row
    from tests.faults.stages.shapes import Shape

REPOSITORY = Path(__file__).resolve().parents[3]
RUN_SECONDS = 240.0
QUIET_TRIES = 400
"""Looks for other sessions, 50 ms apart."""
TENANTS = ("acme", "globex", "initech")
WORD = "quokka"
"""Stands in every text, and must stand nowhere else."""
BATCH, CONCURRENCY, WRITERS = 4, 3, 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A run that ended: its exit status (-9 where it was killed) and all that it printed."""

    status: int
    output: str
    seconds: float


@dataclass(kw_only=True, slots=True)
class Stage:
    """A database of its own with the table `docs`, and a folder from which runs are started."""

    server: str
    starter: Starter
    name: str
    seed: int
    shape: Shape = "hashed"
    failing: int = 15
    """Rows of each tenant that fail; a third as many are whole."""
    url: str = ""
    """The database itself, past any link."""
    owners: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Every text that was ever in the table, and the tenants it was a row of."""
    runs: list[Run] = field(default_factory=list)
    _home: tempfile.TemporaryDirectory[str] = field(init=False)

    def __enter__(self) -> Self:
        self._home = tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True)
        self.url = create_database(self.server, self.name)
        self._fill()
        (self.folder / "integrity.toml").write_text(
            SETTINGS.format(
                batch=BATCH, concurrency=CONCURRENCY, writers=WRITERS, more=MORE[self.shape]
            ),
            encoding="utf-8",
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        drop_database(self.server, self.name)
        self._home.cleanup()

    @property
    def folder(self) -> Path:
        return Path(self._home.name)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be in no output and in no file."""
        password = self.url.split("://")[1].split("@")[0].partition(":")[2]
        return (password, *(key_of(tenant) for tenant in TENANTS))

    def rows(self) -> dict[int, Row]:
        """The table as it is now, once the server has ended the sessions of whoever was killed."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for _ in range(QUIET_TRIES):
                others = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                ).fetchone()
                if others == (0,):
                    return snapshot(connection, stored=self.shape == "stored")
                time.sleep(0.05)
        raise TimeoutError("expected every other session to end, some did not")

    def written(self) -> list[tuple[int, str, str]]:
        """Each vector that was written and committed: the row's id, its text, the vector's md5.

        Of a store none: its rows hold no text.
        """
        if self.shape == "stored":
            return []
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute("SELECT id, body, vector FROM audit.writes").fetchall()

    def execute(self, statement: str) -> None:
        """What the application itself does to the table."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)

    def forget(self) -> None:
        """Three of four rows lose their embedding."""
        self.execute(
            "DELETE FROM vectors WHERE doc_id % 4 > 0"
            if self.shape == "stored"
            else "UPDATE docs SET embedding = NULL WHERE id % 4 > 0"
        )

    def run(
        self,
        *arguments: str,
        url: str | None = None,
        write_url: str | None = None,
        provider: str = "",
        killer: Killer | None = None,
        remediate: bool = True,
    ) -> Run:
        """A whole `--remediate` run, or one of the checks alone; `url` leads through a link.

        `write_url` is where it writes, if that is elsewhere. Raises TimeoutError.
        """
        begun = time.monotonic()
        output = self.folder / f"output-{len(self.runs) + 1}.txt"
        started = self.starter.start(
            "pytest",
            str(REPOSITORY / "checks"),
            "-p",
            "no:xdist",
            "-p",
            "no:hypothesispytest",
            *(["--remediate"] if remediate else []),
            *arguments,
            folder=self.folder,
            environment={
                **self._environment(url or self.url, provider),
                **({"REMEDIATION_DATABASE_URL": write_url} if write_url else {}),
            },
            output=output,
        )
        if killer is not None:
            killer.aim(started)
        status = started.wait(RUN_SECONDS)
        run = Run(
            status=status,
            output=output.read_text("utf-8", errors="replace"),
            seconds=time.monotonic() - begun,
        )
        self.runs.append(run)
        return run

    def everything_written(self) -> Iterator[tuple[str, str]]:
        """Every output and every file of the runs, by name; without the settings."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path.name != "integrity.toml":
                yield str(path.relative_to(self.folder)), path.read_text("utf-8", errors="replace")

    def incidents(self) -> list[Path]:
        """The folders of the runs that got as far as a journal or a report, oldest first."""
        return sorted(
            self.folder.glob("incidents/*/"), key=lambda folder: folder.stat().st_mtime_ns
        )

    def _environment(self, url: str, provider: str) -> dict[str, str]:
        ours = ("OPENAI_", "INTEGRITY_", "DATABASE_URL", "REMEDIATION_", "PYTEST_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {
            **kept,
            **environment(*TENANTS),
            "DATABASE_URL": url,
            "OPENAI_BASE_URL": provider or "http://127.0.0.1:9/v1",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def _fill(self) -> None:
        """Rows of all tenants in a random order; the failing ones fail in every way there is."""
        chance = random.Random(self.seed)
        rows: list[tuple[str, bool]] = [
            (tenant, fails)
            for tenant in TENANTS
            for fails in [True] * self.failing + [False] * max(2, self.failing // 3)
        ]
        chance.shuffle(rows)
        ways = ["missing", "missing", "zero"] + (["stale"] if self.shape != "plain" else [])
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
            connection.execute(TABLES[self.shape])
            for number, (tenant, fails) in enumerate(rows, start=1):
                body = f"{WORD} {number} of {tenant}"
                self.owners[body].add(tenant)
                way = chance.choice(ways) if fails else "whole"
                embedding, hashed = _stored(way, body)
                self._insert(connection, number, tenant, body, embedding, hashed)
            if self.shape != "stored":
                connection.execute(AUDIT)

    def _insert(
        self,
        connection: psycopg.Connection[Any],
        number: int,
        tenant: str,
        body: str,
        embedding: str | None,
        hashed: str,
    ) -> None:
        if self.shape != "stored":
            connection.execute(
                "INSERT INTO docs (id, tenant, body, embedding, content_hash)"
                " VALUES (%s, %s, %s, %s::text::vector, md5(%s))",
                (number, tenant, body, embedding, hashed),
            )
            return
        connection.execute(
            "INSERT INTO docs (id, tenant, body) VALUES (%s, %s, %s)", (number, tenant, body)
        )
        # Of those without an embedding some have a row all the same.
        if embedding is not None or number % 2:
            connection.execute(
                "INSERT INTO vectors VALUES (%s, %s::text::vector, md5(%s))",
                (number, embedding, hashed),
            )


def _stored(way: str, body: str) -> tuple[str | None, str]:
    """The embedding of a row that fails so, and the text whose hash stands beside it."""
    if way == "missing":
        return None, body
    if way == "zero":
        return "[0,0,0,0,0,0,0,0]", body
    if way == "stale":
        return literal(vector_of(f"before {body}")), f"before {body}"
    return literal(vector_of(body)), body


def literal(vector: np.ndarray[Any, Any]) -> str:
    """A vector as pgvector reads it."""
    return "[" + ",".join(map(str, vector.tolist())) + "]"
