"""Repairs all tables of a run: plans, then repairs table by table.

Knows no pytest; `opening` makes it, and `phases` shows what it returns.
"""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from checks.database.connection import connect
from remediation.journal.journal import Journal
from remediation.journal.past_throughput import Past
from remediation.journal.quarantine import Quarantine
from remediation.provider.tokens import token_counter
from remediation.run.canary_embedder import CanaryEmbedder
from remediation.run.checks_to_heal import (
    accepted_checks,
    held_checks,
    open_failing,
    repairable_checks,
)
from remediation.run.preflight import (
    endpoint_of,
    provider_at,
)
from remediation.run.rights import missing_rights
from remediation.run.verification import keyed_part, measure_again, part_words
from remediation.selection.row_reader import RowReader
from remediation.table_repair.engine import Engine
from remediation.table_repair.planning.estimate import rates_of
from remediation.table_repair.planning.index_cost import seconds_per_indexed_row
from remediation.table_repair.planning.plan import Plan, TablePlan, plan_table, refusal
from remediation.table_repair.table_repair import TableWork
from remediation.table_repair.tenant_endpoints import TenantEndpoints
from remediation.throttling.health import Health
from remediation.throttling.throttle import Throttle
from remediation.writing.frozen_sets import freeze
from remediation.writing.locked_rows import PATIENCE_SECONDS
from remediation.writing.triggers import circumstances

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from checks.database.connection import Connection, ConnectionTarget
    from checks.database.server import Server
    from checks.examination.examination import Examination
    from checks.examination.table_examination import TableExamination
    from checks.settings.integrity_toml import Settings
    from remediation.journal.outcomes import Outcome, RowName
    from remediation.provider.endpoint import Endpoint
    from remediation.provider.keys import KeyRing
    from remediation.provider.protocol import EmbeddingProvider
    from remediation.provider.rate_limits import RateLimits
    from remediation.provider.retry import RetryPolicy
    from remediation.table_repair.planning.estimate import Estimate
    from remediation.table_repair.result import TableRepair
    from remediation.table_repair.row_repair import EngineOf
    from remediation.throttling.budget import Budget


TEXT_CHARACTERS = 200
"""Of a row's text, where it is shown: enough to recognise it by."""


@dataclass(kw_only=True)
class Repair:
    """One run's repair, of `open_repair`. Call `plan`, then `run`."""

    run_id: str
    settings: Settings
    environment: Mapping[str, str] = field(repr=False)
    examination: Examination
    place: ConnectionTarget
    """Where repairs read and write."""
    server: Server
    connection: Connection
    keys: KeyRing
    known_tenants: frozenset[str | None]
    """Of all declared tables: whose names decide whose key is whose."""
    limits: RateLimits
    tenants: tuple[str, ...] | None
    budget: Budget
    """The caps of the run; the canary's usage counts too."""
    started_from: Path = Path()
    """The folder that a relative `pause_file` is in."""
    retry: RetryPolicy | None = None
    provider_at: Callable[[Endpoint], EmbeddingProvider] = provider_at
    """Opens the provider of an endpoint."""
    lock_patience: float = PATIENCE_SECONDS
    """Seconds that a row may stay locked by another session before it is given up."""
    quarantine: Quarantine = field(default_factory=Quarantine)
    past: Past = field(default_factory=Past)
    """How long requests and writes of earlier runs took; by default, nobody knows."""
    engine_of: EngineOf = Engine
    """Makes what repairs the rows of one table."""
    notes: list[str] = field(default_factory=list)
    """What the second pass looked at, where that is not every row by every check."""
    _readers: dict[str, RowReader] = field(default_factory=dict)
    _begun: list[TableWork] = field(default_factory=list)

    @property
    def results(self) -> list[TableRepair]:
        """What came of each table that was begun."""
        return [work.result for work in self._begun]

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
            spent=self.budget.spent,
            notes=(*self.quarantine.unreadable, *self._write_side_note),
        )

    @property
    def _write_side_note(self) -> tuple[str, ...]:
        """What of the write side's own URL has no effect; the checks have said it of theirs."""
        own = self.place.variable == self.settings.database.write_url_env
        return (self.place.note,) if own and self.place.note else ()

    def _plan_table(self, table: TableExamination) -> TablePlan:
        refused = refusal(table) or missing_rights(
            self.connection,
            self.place,
            table.target,
            timeout=self.settings.database.statement_timeout,
        )
        if refused is not None:
            return TablePlan(
                table=table.target.name,
                model=table.target.model,
                unrepairable=refused,
                # A row may fail several: each counted once, unless other checks fail, too.
                failing=min(
                    table.affected,
                    sum(open_failing(table, check.name) for check in repairable_checks(table)),
                ),
            )
        return plan_table(
            self.connection,
            table,
            self._reader(table),
            settings=self.settings,
            keys=self.keys,
            counter=token_counter(table.target.model, self.environment),
            tenants=self.tenants,
            quarantine=self.quarantine,
            hopeless=self._hopeless(table),
            rates=rates_of(
                self.past,
                endpoint=endpoint_of(self.settings, self.environment, table.target),
                table=table.target.name,
                indexed_row=partial(self._indexed_row, table) if table.target.ann_indexed else None,
            ),
        )

    def _hopeless(self, table: TableExamination) -> dict[str, str]:
        """Checks whose rows an earlier run wrote in vain, and why nothing is asked for them."""
        vain = self.quarantine.in_vain(table.target.name)
        if vain is None:
            return {}
        reader = self._reader(table)
        with reader.transaction(self.connection):
            if circumstances(self.connection, table.target) != vain.circumstances:
                return {}
        checks = [check.name for check in reader.checks]
        return dict.fromkeys(checks if vain.broke else vain.unhealed, vain.words)

    def _indexed_row(self, table: TableExamination) -> float:
        return seconds_per_indexed_row(
            self.connection,
            self.place,
            table.target,
            rows=sum(measurement.rows for measurement in table.measurements),
            timeout=self.settings.database.statement_timeout,
        )

    def run(
        self,
        plan: Plan,
        report_directory: Path,
        on_outcome: Callable[[Outcome], None],
        on_pause: Callable[[str], None] = lambda _: None,
        on_probed: Callable[[TablePlan, Estimate], None] = lambda *_: None,
    ) -> None:
        """Repair table after table; `results` is filled even when this raises.

        Then those again in which rows of late tenants were put aside.
        `on_pause` is called with a line for each pause, for its end, and for what was learnt of
        the size of requests; `on_probed` with how long
        a table takes from its probe on, by what that took.
        """
        repairable = {table.table for table in plan.tables if table.unrepairable is None}
        tables = [table for table in self.tables if table.target.name in repairable]
        if not tables:
            return
        with ExitStack() as stack:
            journal = Journal(report_directory / self.run_id)
            stack.callback(journal.close)
            journal.begin(self.run_id, self.server.identity)
            stack.callback(self._remember, journal)
            health = Health(self.settings.repair, self.place, folder=self.started_from)
            throttle = stack.enter_context(Throttle(health, on_pause))
            endpoints, works, to_come = TenantEndpoints(), list[TableWork](), deque[TableWork]()

            def others_wait() -> bool:
                lines = (line for work in to_come for line in work.planned.tenants)
                return any(endpoints.prompt(line.tenant) for line in lines if not line.missing_key)

            for table in tables:
                planned = plan.table(table.target.name)
                work = TableWork(
                    reader=self._reader(table),
                    planned=planned,
                    settings=self.settings,
                    place=self.place,
                    run_id=self.run_id,
                    keys=self.keys,
                    limits=self.limits,
                    provider_at=self.provider_at,
                    endpoint=endpoint_of(self.settings, self.environment, table.target),
                    counter=token_counter(table.target.model, self.environment),
                    journal=journal,
                    budget=self.budget,
                    throttle=throttle,
                    on_outcome=on_outcome,
                    on_probed=partial(on_probed, planned),
                    tenants=self.tenants,
                    retry=self.retry,
                    lock_patience=self.lock_patience,
                    quarantine=self.quarantine,
                    endpoints=endpoints,
                    others_wait=others_wait,
                    engine_of=self.engine_of,
                )
                stack.callback(work.close)
                works.append(work)
            to_come.extend(works)
            while to_come:
                self._begun.append(to_come.popleft())
                self._run(self._begun[-1], on_pause)
            for work in works:
                if work.puts_aside:
                    self._run(work, on_pause)

    def _run(self, work: TableWork, on_pause: Callable[[str], None]) -> None:
        try:
            work.run()
        finally:
            for words in (*self.limits.names.untold(), *self.limits.sizes.untold()):
                on_pause(words)

    def _remember(self, journal: Journal) -> None:
        measured = (result.throughput for result in self.results)
        # The next plan can do without.
        with suppress(OSError):
            journal.throughputs(one for one in measured if one is not None)

    @contextmanager
    def embedder(self, *, dry_run: bool) -> Iterator[CanaryEmbedder]:
        """The embedder for a canary in the same run: with the same keys and budget."""
        embedder = CanaryEmbedder(
            settings=self.settings,
            environment=self.environment,
            keys=self.keys,
            limits=self.limits,
            budget=self.budget,
            dry_run=dry_run,
            retry=self.retry,
            provider_at=self.provider_at,
        )
        try:
            yield embedder
        finally:
            embedder.close()

    def remeasure(self) -> Examination:
        """Measure every touched table again, through the connection that wrote."""
        keyed = {}
        # What a replica showed first may have been old by then.
        for result in () if self.examination.server.in_recovery else self.results:
            first, reader = self.examination.table(result.table), self._readers[result.table]
            part = keyed_part(first, reader)
            if part is not None:
                keyed[result.table] = part
                self.notes.append(part_words(first, part, reader))
        return measure_again(
            self.examination,
            {result.table for result in self.results},
            self.place,
            self.settings,
            tenants=self.tenants,
            keyed=keyed,
        )

    def texts_left(self) -> dict[RowName, str]:
        """How the texts of some rows that were not fixed begin, for --show-texts."""
        texts: dict[RowName, str] = {}
        with connect(self.place) as connection:
            for result in self.results:
                reader = self._readers[result.table]
                keys = result.account.sample_keys_left
                found = reader.beginnings(connection, keys, characters=TEXT_CHARACTERS)
                texts |= {(result.table, key): text for key, text in found.items()}
        return texts

    def close(self) -> None:
        """Let go of the selected keys."""
        for reader in self._readers.values():
            reader.selected.close()

    def _reader(self, table: TableExamination) -> RowReader:
        """The reader of a table for plan and repair; freezes its sets before the first write."""
        reader = self._readers.get(table.target.name)
        if reader is None:
            reader = freeze(
                self.connection,
                RowReader(
                    target=table.target,
                    checks=repairable_checks(table),
                    accepted=accepted_checks(table),
                    held=held_checks(table),
                    place=self.place,
                    timeout=self.settings.database.statement_timeout,
                ),
            )
            self._readers[table.target.name] = reader
        return reader
