"""A repair of all tables of a run: keys, plan, lock, probe, backfill, and what came of it.

Knows no pytest; the plugin calls it between the two passes and shows what it returns.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import psycopg

from checks.catalog import read_server
from checks.connection import connect, parse_url, read_only, reason_of
from checks.errors import CannotExamineError, IntegrityError
from checks.examination import examine_target
from checks.redaction import redactor
from remediation.backfill import Backfill, Spending
from remediation.budget import Budget
from remediation.embedders import Embedders
from remediation.journal import Journal
from remediation.keys import KeyRing
from remediation.lock import RepairLock, TableLockedError
from remediation.outcomes import Account, Outcome
from remediation.plan import Plan, TablePlan, plan_table, refusal, repairable_checks
from remediation.probe import LEAST_COSINE, ProbeResult, probe
from remediation.provider import Endpoint
from remediation.selection import RowReader
from remediation.tenants import known_tenants
from remediation.tokens import token_counter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from checks.catalog import Server
    from checks.connection import Connection, ConnectionTarget
    from checks.examination import Examination, TableExamination
    from checks.settings import Settings
    from remediation.tokens import TokenCounter


class RepairRefusedError(IntegrityError):
    """The repair cannot begin at all; says why and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRepair:
    """What a repair did to one table. `stopped` says why it ended before its last row."""

    table: str
    account: Account
    spending: Spending
    stopped: str | None = None
    probes: tuple[ProbeResult, ...] = ()
    seconds: float = 0.0


@dataclass(kw_only=True)
class Repair:
    """One run's repair. `open` it, then `plan`, then `run`."""

    run_id: str
    settings: Settings
    environment: Mapping[str, str] = field(repr=False)
    examination: Examination
    place: ConnectionTarget
    """Where repairs read and write."""
    server: Server
    connection: Connection
    keys: KeyRing
    tenants: tuple[str, ...] | None
    stop: threading.Event = field(default_factory=threading.Event)
    results: list[TableRepair] = field(default_factory=list)

    @property
    def tables(self) -> tuple[TableExamination, ...]:
        """The tables in which a row fails a check that a repair can heal."""
        return tuple(table for table in self.examination.tables if repairable_checks(table))

    def plan(self) -> Plan:
        """What the repair would do. Raises psycopg's errors."""
        caps = self.settings.repair
        return Plan(
            tables=tuple(self._plan_table(table) for table in self.tables),
            price_per_million_tokens=self.settings.provider.price_per_million_tokens,
            max_rows=caps.max_rows,
            max_cost=caps.max_cost,
        )

    def _plan_table(self, table: TableExamination) -> TablePlan:
        refused = refusal(table)
        if refused is not None:
            return TablePlan(
                table=table.target.name,
                model=table.target.model,
                unrepairable=refused,
                failing=max(table.failing(check.name) for check in repairable_checks(table)),
            )
        return plan_table(
            self.connection,
            table,
            self._reader(table),
            settings=self.settings,
            keys=self.keys,
            counter=self._counter(table),
            tenants=self.tenants,
        )

    def run(
        self, plan: Plan, report_directory: Path, on_outcome: Callable[[Outcome], None]
    ) -> None:
        """Repair table after table; `results` holds what came of it, also when this raises."""
        caps = self.settings.repair
        budget = Budget(
            max_rows=caps.max_rows,
            max_cost=caps.max_cost,
            price_per_million_tokens=self.settings.provider.price_per_million_tokens,
        )
        repairable = {table.table for table in plan.tables if table.unrepairable is None}
        tables = [table for table in self.tables if table.target.name in repairable]
        if not tables:
            return
        journal = Journal(report_directory / self.run_id)
        try:
            for table in tables:
                if self.stop.is_set():
                    return
                self._run_table(table, plan, journal, budget, on_outcome)
        finally:
            journal.close()

    def _run_table(
        self,
        table: TableExamination,
        plan: Plan,
        journal: Journal,
        budget: Budget,
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        begun = time.monotonic()
        backfill: Backfill | None = None
        probes: tuple[ProbeResult, ...] = ()
        spending, stopped = Spending(), None
        try:
            with ExitStack() as stack:
                lock = stack.enter_context(RepairLock(self.place, table.target, run_id=self.run_id))
                embedders = Embedders(self._endpoint(table), self.keys, stop=self.stop)
                stack.callback(embedders.close)
                probes = self._probe(table, plan, embedders)
                spending.requests += sum(result.requests for result in probes)
                spending.tokens += sum(result.tokens for result in probes)
                budget.tokens += sum(result.tokens for result in probes)
                stopped = _disagreement(probes)
                if stopped is not None:
                    return
                backfill = Backfill(
                    target=table.target,
                    reader=self._reader(table),
                    settings=self.settings,
                    write_place=self.place,
                    connection=self.connection,
                    embedders=embedders,
                    counter=self._counter(table),
                    journal=journal,
                    lock=lock,
                    budget=budget,
                    stop=self.stop,
                    on_outcome=on_outcome,
                    tenants=self.tenants,
                    spending=spending,
                )
                backfill.trust_probed(probes)
                backfill.run()
        except TableLockedError as error:
            stopped = str(error)
        except psycopg.Error as error:
            stopped = f"the database refused: {reason_of(error)}"
        except CannotExamineError as error:
            stopped = str(error)
        finally:
            checks_stopped = "; ".join(backfill.stopped_checks.values()) if backfill else ""
            self.results.append(
                TableRepair(
                    table=table.target.name,
                    account=backfill.account if backfill else Account(),
                    spending=spending,
                    stopped=stopped
                    or (backfill.stopped if backfill else None)
                    or checks_stopped
                    or None,
                    probes=probes,
                    seconds=time.monotonic() - begun,
                )
            )

    def _probe(
        self, table: TableExamination, plan: Plan, embedders: Embedders
    ) -> tuple[ProbeResult, ...]:
        if self.settings.repair.probe == 0:
            return ()
        planned = next(entry for entry in plan.tables if entry.table == table.target.name)
        return probe(
            self.connection,
            self._reader(table),
            embedders,
            tenants=[line.tenant for line in planned.tenants if line.missing_key is None],
            rows=self.settings.repair.probe,
            concurrency=self.settings.provider.concurrency,
        )

    def remeasure(self) -> Examination:
        """Measure every touched table again, through the connection that wrote."""
        touched = {result.table for result in self.results}
        with connect(self.place) as connection:
            again = [
                examine_target(
                    connection,
                    self.place,
                    table.target,
                    timeout=self.settings.database.statement_timeout,
                    tenants=self.tenants,
                )
                for table in self.examination.tables
                if table.target.name in touched
            ]
        return self.examination.updated(again)

    def _reader(self, table: TableExamination) -> RowReader:
        return RowReader(
            target=table.target,
            checks=repairable_checks(table),
            place=self.place,
            timeout=self.settings.database.statement_timeout,
        )

    def _counter(self, table: TableExamination) -> TokenCounter:
        return token_counter(table.target.model, self.environment)

    def _endpoint(self, table: TableExamination) -> Endpoint:
        return endpoint_of(
            self.settings, self.environment, table.target.model, table.target.dimensions
        )


def endpoint_of(
    settings: Settings, environment: Mapping[str, str], model: str, dimensions: int
) -> Endpoint:
    """Where a table's texts are embedded. Raises `RepairRefusedError` for a malformed base URL."""
    provider = settings.provider
    try:
        return Endpoint(
            base_url=environment.get("OPENAI_BASE_URL") or provider.base_url,
            model=model,
            dimensions=dimensions,
            send_dimensions=provider.send_dimensions,
        )
    except ValueError as error:
        raise RepairRefusedError(f"OPENAI_BASE_URL: {error}") from None


@contextmanager
def open_repair(
    *,
    run_id: str,
    settings: Settings,
    environment: Mapping[str, str],
    examination: Examination,
    read_place: ConnectionTarget,
    tenants: tuple[str, ...] | None,
) -> Iterator[Repair]:
    """Connect to the side that is written, and make sure that it is the one that was read.

    Raises `RepairRefusedError`, `CannotExamineError` and `ConnectionUrlError`.
    """
    variable = settings.database.write_url_env
    url = environment.get(variable)
    place = parse_url(url, variable=variable) if url else read_place
    if url and place.search_path is None:
        place = replace(place, search_path=read_place.search_path)
    with connect(place) as connection:
        with read_only(connection, place, statement_timeout=settings.database.statement_timeout):
            server = read_server(connection)
        _require_same_database(examination.server, server, variable if url else None)
        yield Repair(
            run_id=run_id,
            settings=settings,
            environment=environment,
            examination=examination,
            place=place,
            server=server,
            connection=connection,
            keys=_key_ring(connection, place, settings, environment, examination),
            tenants=tenants,
        )


def _require_same_database(read: Server, write: Server, variable: str | None) -> None:
    if not read.same_database_as(write):
        raise RepairRefusedError(
            f"the checks read database {read.database!r}, but {variable} leads to another one,"
            f" {write.database!r} at {write.address or 'the local socket'}; a repair writes only"
            " where the checks looked"
        )
    if write.in_recovery:
        raise RepairRefusedError(
            f"database {write.database!r} at {write.address or 'the local socket'} is a replica,"
            " which cannot be written; set REMEDIATION_DATABASE_URL (or what write_url_env names)"
            " to the primary"
        )


def _key_ring(
    connection: Connection,
    place: ConnectionTarget,
    settings: Settings,
    environment: Mapping[str, str],
    examination: Examination,
) -> KeyRing:
    keys = settings.keys

    def lookup(tenant: str) -> str | None:
        timeout = settings.database.statement_timeout
        with read_only(connection, place, statement_timeout=timeout):
            row = connection.execute(keys.sql or "", {"tenant": tenant}).fetchone()  # type: ignore[call-overload]
        key = None if row is None else row[0]
        redactor.add(key)
        return key if key is None else str(key)

    return KeyRing(
        env=keys.env,
        sql_lookup=lookup if keys.sql is not None else None,
        command=keys.command,
        fallback_env=keys.fallback_env,
        environ=environment,
        known_tenants=known_tenants(connection, place, settings, examination),
    )


def _disagreement(probes: Sequence[ProbeResult]) -> str | None:
    """Why the probe refuses the repair, with the numbers, or None."""
    against = [result for result in probes if not result.agrees]
    if not against:
        return None
    numbers = "; ".join(
        f"{'no tenant' if result.tenant is None else repr(result.tenant)}:"
        f" {', '.join(f'{cosine:.3f}' for cosine in result.cosines)}"
        for result in against[:5]
    )
    return (
        f"the probe refused: healthy rows, embedded again, have a cosine under {LEAST_COSINE} with"
        f" what is stored ({numbers}), so the model or the text expression is not the one they were"
        " embedded with; correct [provider] model or `text` (probe = 0 in [repair] switches the"
        " probe off)"
    )
