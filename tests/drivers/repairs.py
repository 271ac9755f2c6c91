"""A table of documents of several tenants, and its whole repair in this process."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from checks.database.connection_url import parse_url
from checks.examination.examination import examine
from checks.examination.selection import Selection
from checks.settings.integrity_toml import Settings
from remediation.journal.outcomes import Outcome
from remediation.provider.retry import RetryPolicy
from remediation.run.opening import open_repair
from remediation.run.repair_run import new_run_id
from remediation.writing.locked_rows import PATIENCE_SECONDS
from tests.servers.provider_server import vector_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from checks.examination.examination import Examination
    from checks.examination.table_examination import TableExamination
    from remediation.journal.quarantine import Quarantine
    from remediation.provider.rate_limits import RateLimits
    from remediation.run.repair import Repair
    from remediation.table_repair.planning.plan import Plan
    from remediation.table_repair.result import TableRepair
    from tests.servers.provider_server import ProviderServer

SOON = RetryPolicy(attempts=3, base_delay=0.001)
"""As in production, but without its waits."""

TABLE = "public.docs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """A repair that has ended: its plan and what came of it."""

    plan: Plan
    results: tuple[TableRepair, ...]
    after: Examination | None = None
    folder: Path | None = None

    @property
    def docs(self) -> TableRepair:
        return next(result for result in self.results if result.table == TABLE)

    def counts(self) -> dict[str, int]:
        """Rows of `docs` by outcome, those without any left out; `selected` among them."""
        account = self.docs.account
        counts = {str(outcome): account.count(outcome) for outcome in Outcome}
        assert account.selected == sum(counts.values()), (account.selected, counts)
        return {"selected": account.selected, **{k: n for k, n in counts.items() if n}}

    def reasons(self, outcome: Outcome) -> set[str]:
        return {g.reason for g in self.docs.account.groups if g.outcome is outcome}


@dataclass(kw_only=True, slots=True)
class Docs:
    """The table `docs` of one database: id, tenant, title, body, note, embedding."""

    url: str
    type: str = "vector(8)"
    table: str = TABLE
    _connection: psycopg.Connection[Any] = field(init=False)

    def __post_init__(self) -> None:
        self._connection = psycopg.connect(self.url, autocommit=True)

    def create(self, rows: Mapping[Any, tuple[int, int]]) -> Docs:
        """For each tenant that many healthy rows, then that many without an embedding."""
        self.execute(
            f"CREATE TABLE {self.table} (id integer PRIMARY KEY, tenant text, body text,"
            f" note text DEFAULT 'kept', hidden boolean DEFAULT false, embedding {self.type})"
        )
        number = 0
        with self._connection.cursor() as cursor:
            for tenant, (healthy, missing) in rows.items():
                for position in range(healthy + missing):
                    number += 1
                    body = f"document {number} of {tenant}"
                    cursor.execute(
                        f"INSERT INTO {self.table} (id, tenant, body, embedding)"
                        f" VALUES (%s, %s, %s, %s::text::{self.type})",
                        (number, tenant, body, self.literal(body) if position < healthy else None),
                    )
        return self

    def literal(self, text: str) -> str:
        """The text's vector as the column's type writes it."""
        numbers = ",".join(str(x) for x in vector_of(text).tolist())
        if self.type.startswith("sparsevec"):
            elements = (f"{i}:{x}" for i, x in enumerate(numbers.split(","), start=1))
            return f"{{{','.join(elements)}}}/8"
        return f"{{{numbers}}}" if self.type.endswith("[]") else f"[{numbers}]"

    def execute(self, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []

    def rows(self, columns: str = "*") -> list[tuple[Any, ...]]:
        return self.execute(f"SELECT {columns} FROM {self.table} ORDER BY id")

    def versions(self) -> list[tuple[Any, ...]]:
        """Where each row's version is and who made it: an UPDATE of any kind changes it."""
        return self.execute(f"SELECT id, ctid, xmin FROM {self.table} ORDER BY id")

    def wrong(self) -> list[int]:
        """Rows whose embedding is missing or not that of their text."""
        return [
            number
            for number, body, stored in self.execute(
                f"SELECT id, body, embedding::text FROM {self.table}"
                " WHERE NOT hidden AND body ~ '[^[:space:]]' ORDER BY id"
            )
            if stored is None or not _same(stored, body)
        ]

    def close(self) -> None:
        self._connection.close()


def _same(stored: str, body: str) -> bool:
    numbers = [float(x) for x in stored.strip("[]{}").split(",")]
    expected = vector_of(body).tolist()
    return len(numbers) == len(expected) and all(
        abs(a - b) < 1e-3 for a, b in zip(numbers, expected, strict=True)
    )


@contextmanager
def docs(
    url: str, rows: Mapping[Any, tuple[int, int]], column_type: str = "vector(8)"
) -> Iterator[Docs]:
    """The table with those rows; see `Docs.create`."""
    table = Docs(url=url, type=column_type)
    try:
        yield table.create(rows)
    finally:
        table.close()


def settings(server: ProviderServer | str, **sections: Any) -> Settings:
    """Settings for `docs`, with keys by `KEY_<tenant>`; sections override, `tables` replaces."""
    base_url = server if isinstance(server, str) else server.base_url
    provider = {"base_url": base_url, "dimensions": 8, "batch_size": 5, "concurrency": 4}
    table = {
        "name": TABLE,
        "tenant": "tenant",
        "text": "body",
        "where": "NOT hidden",
        **sections.pop("table", {}),
    }
    return Settings.model_validate(
        {
            "provider": {**provider, **sections.pop("provider", {})},
            "keys": {"env": "KEY_{tenant}", **sections.pop("keys", {})},
            "tables": sections.pop("tables", [table]),
            **sections,
        }
    )


def key_of(tenant: str) -> str:
    """The key that `environment` gives a tenant."""
    return f"sk-{tenant}-Zq7vT2mX"


def environment(*tenants: str) -> dict[str, str]:
    return {f"KEY_{tenant.upper()}": key_of(tenant) for tenant in tenants}


@contextmanager
def opened(
    url: str,
    chosen: Settings,
    *,
    keys: Mapping[str, str],
    tables: Sequence[str] | None = None,
    tenants: tuple[str, ...] | None = None,
    started_from: Path = Path(),
    lock_patience: float = PATIENCE_SECONDS,
    limits: RateLimits | None = None,
    quarantine: Quarantine | None = None,
    report_directory: Path | None = None,
) -> Iterator[Repair]:
    """A repair that is ready to be planned and run."""
    place = parse_url(url, variable="DATABASE_URL")
    examination = examine(place, chosen, Selection(tables=tables, tenants=tenants))
    with open_repair(
        run_id=new_run_id(),
        settings=chosen,
        environment=keys,
        examination=examination,
        read_place=place,
        tenants=tenants,
        started_from=started_from,
        retry=SOON,
        lock_patience=lock_patience,
        limits=limits,
        quarantine=quarantine,
        report_directory=report_directory,
    ) as repair:
        yield repair


def repaired(
    url: str,
    chosen: Settings,
    folder: Path,
    *,
    keys: Mapping[str, str],
    tables: Sequence[str] | None = None,
    tenants: tuple[str, ...] | None = None,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
    on_pause: Callable[[str], None] = lambda _: None,
    started_from: Path = Path(),
    lock_patience: float = PATIENCE_SECONDS,
    limits: RateLimits | None = None,
    quarantine: Quarantine | None = None,
) -> Done:
    """Examine, plan and repair."""
    with opened(
        url,
        chosen,
        keys=keys,
        tables=tables,
        tenants=tenants,
        started_from=started_from,
        lock_patience=lock_patience,
        limits=limits,
        quarantine=quarantine,
    ) as repair:
        plan = repair.plan()
        repair.run(plan, folder, on_outcome, on_pause)
        return Done(
            plan=plan,
            results=tuple(repair.results),
            after=repair.remeasure(),
            folder=folder / repair.run_id,
        )


def examined(url: str, chosen: Settings, table: str = TABLE) -> TableExamination:
    """What the checks say of one table."""
    place = parse_url(url, variable="DATABASE_URL")
    (examination,) = examine(place, chosen, Selection(tables=[table])).tables
    return examination


@contextmanager
def meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `work(stop)` on a thread beside the block; what it raises is raised at the end."""
    stop = threading.Event()
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            work(stop)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if raised:
        raise raised[0]
