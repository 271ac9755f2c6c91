"""Does one job of a repair: the rows of a part, by the same engine as a repair on one machine.

Works under the coordinator's lock, within the run's caps, with keys that it finds itself.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from checks.database.connection import cancel, connect, read_only
from checks.database.server import read_server
from checks.errors import IntegrityError
from checks.examination.first_look import read_place
from checks.settings.integrity_toml import overridden
from checks.targets.resolution import resolve
from checks.tracebacks import bare
from remediation.distributed.parts import PartReader
from remediation.distributed.shared.alive import CoordinatorAlive
from remediation.distributed.shared.budget import SharedBudget
from remediation.distributed.shared.journal import ShippedJournal
from remediation.distributed.shared.limits import SharedRateLimits
from remediation.distributed.shared.queue import GivenBackError
from remediation.distributed.shared.run_rows import WorkRows
from remediation.distributed.shared.schema import shared_connection
from remediation.journal.quarantine import Quarantine
from remediation.provider.answered_names import AnsweredNames
from remediation.provider.embedders import Embedders
from remediation.provider.request_size import RequestSizes
from remediation.provider.tokens import token_counter
from remediation.run.preflight import endpoint_of, key_ring, provider_at, write_place
from remediation.selection.put_aside import PutAside
from remediation.table_repair.circuit_breaker import CircuitBreaker
from remediation.table_repair.engine import Engine
from remediation.table_repair.probing.late_probes import LateProbes
from remediation.throttling.health import Health
from remediation.throttling.throttle import Throttle
from remediation.writing.locked_rows import LockedRows
from remediation.writing.repair_lock import LockLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from checks.database.connection import Connection, ConnectionTarget
    from checks.row_checks.row_check import AppliedCheck
    from checks.settings.integrity_toml import Settings
    from checks.targets.target import Target
    from remediation.distributed.orders import Orders
    from remediation.selection.put_aside import KeyedRow

log = logging.getLogger(__name__)


class UnlikeError(IntegrityError):
    """What the coordinator saw is not what this worker sees."""


@dataclass(kw_only=True)
class PartRepairs:
    """The jobs of one worker, one at a time. `end`, from any thread, has the current one end."""

    settings: Settings
    environment: Mapping[str, str] = field(repr=False)
    started_from: Path
    """The folder that a relative `pause_file` is in."""
    _breakers: dict[tuple[str, str], CircuitBreaker] = field(default_factory=dict)
    """Of the last table: what is known of its keys and checks outlives a job."""
    _sizes: RequestSizes = field(default_factory=RequestSizes)
    _stop: threading.Event = field(default_factory=threading.Event)
    _ending: threading.Event = field(default_factory=threading.Event)
    _reading: Connection | None = None

    @property
    def place(self) -> ConnectionTarget:
        """Where this worker reads and writes. Raises `ConnectionUrlError`."""
        found = read_place(self.settings, self.environment)
        return write_place(self.settings, self.environment, found)

    def end(self) -> None:
        """Have the current job end in order; it is given back."""
        self._ending.set()
        self._stop.set()
        if (reading := self._reading) is not None:
            cancel(reading)

    @bare
    def repair(self, run_id: str, table: str, part: int, *, last: bool = False) -> str | None:
        """Do one job; returns why it ended before its last row, or None.

        Unless it is among the `last`, rows of late tenants are put aside while others wait.
        Raises `GivenBackError` where the worker ends first, and what is not foreseen.
        """
        self._stop = threading.Event()
        with ExitStack() as stack:
            shared = stack.enter_context(shared_connection(self.place))
            work = WorkRows(connection=shared, run_id=run_id, table=table)
            orders = work.orders()
            alive = CoordinatorAlive(shared, run_id, table)
            try:
                alive.check()
            except LockLostError as error:
                return str(error)
            if orders is None:
                return "its repair is over"
            begun = work.begin_part(part)
            if begun is None:
                return "it was done before"
            rows, refusals = begun
            if self._ending.is_set():
                self._stop.set()
            breaker = self._breaker(run_id, table)
            work.learn_stops(breaker)
            budget = SharedBudget(connection=shared, run_id=run_id, **work.caps())
            stack.callback(budget.close)
            journal = ShippedJournal(shared, run_id)
            engine = self._engine(
                stack,
                work,
                orders,
                alive,
                rows=rows,
                quarantine=Quarantine.of_entries(table, refusals),
                budget=budget,
                breaker=breaker,
                journal=journal,
                others_wait=lambda: not last and (orders.others_wait or work.jobs_wait()),
            )
            try:
                engine.run()
                journal.put_aside(table, engine.aside.take_all())
                with suppress(OSError):  # an estimate rests on it, and no row
                    journal.throughputs([engine.throughput])
            finally:
                self._reading = None
                if breaker.broke:
                    # The rows of other parts fail no less once they are written.
                    reason = engine.stopped or ""
                    breaker.stopped_checks = dict.fromkeys(orders.checks, reason)
                work.tell_stops(breaker)
                for words in self._sizes.untold():
                    log.info(words)
            given_back = engine.stopped is not None and self._ending.is_set()
            work.end_part(part, ended=not given_back, stopped=engine.stopped)
        if given_back:
            raise GivenBackError
        return engine.stopped

    def give_up(self, run_id: str, table: str, part: int, *, reason: str | None) -> None:
        """Say that a part was tried in vain; with a `reason`, for the last time."""
        with shared_connection(self.place) as shared:
            work = WorkRows(connection=shared, run_id=run_id, table=table)
            work.end_part(part, ended=reason is not None, stopped=reason)

    def _breaker(self, run_id: str, table: str) -> CircuitBreaker:
        if (run_id, table) not in self._breakers:
            self._breakers = {(run_id, table): CircuitBreaker(table=table)}
        return self._breakers[run_id, table]

    def _engine(
        self,
        stack: ExitStack,
        work: WorkRows,
        orders: Orders,
        alive: CoordinatorAlive,
        *,
        rows: Sequence[KeyedRow],
        quarantine: Quarantine,
        budget: SharedBudget,
        breaker: CircuitBreaker,
        journal: ShippedJournal,
        others_wait: Callable[[], bool],
    ) -> Engine:
        settings = overridden(self.settings, "provider", "batch_size", orders.batch_size)
        place = self.place
        connection = self._reading = stack.enter_context(connect(place))
        target = self._target(connection, place, work.table)
        counter = token_counter(target.model, self.environment)
        health = Health(settings.repair, place, folder=self.started_from)
        looking_up = stack.enter_context(connect(place))
        embedders = Embedders(
            endpoint_of(settings, self.environment, target),
            key_ring(looking_up, place, settings, self.environment, orders.known_tenants),
            provider_at=provider_at,
            stop=self._stop,
            limits=SharedRateLimits(
                connection=stack.enter_context(shared_connection(place)),
                requests_per_minute=settings.repair.requests_per_minute,
                tokens_per_minute=settings.repair.tokens_per_minute,
                sizes=self._sizes,
                names=AnsweredNames(proven=orders.names),
            ),
            counter=counter,
            models=target.declared.tenant_models,
        )
        stack.callback(embedders.close)
        aside = PutAside()
        stack.callback(aside.close)
        return Engine(
            reader=PartReader(
                target=target,
                checks=self._checks(orders.applied, target),
                held=self._checks(orders.kept, target),
                place=place,
                timeout=settings.database.statement_timeout,
                rows=rows,
            ),
            settings=settings,
            write_place=place,
            connection=connection,
            embedders=embedders,
            counter=counter,
            journal=journal,
            lock=alive,
            budget=budget,
            stop=self._stop,
            throttle=stack.enter_context(Throttle(health, log.info)),
            on_outcome=lambda _: None,
            tenants=orders.tenants,
            quarantine=quarantine,
            breaker=breaker,
            locked=LockedRows(),
            late=LateProbes(budget=budget, on_answer=lambda _: None),
            aside=aside,
            others_wait=others_wait,
        )

    def _checks(
        self, asked: Callable[[Target], tuple[AppliedCheck, ...]], target: Target
    ) -> tuple[AppliedCheck, ...]:
        try:
            return asked(target)
        except LookupError as error:
            raise UnlikeError(f"check {error} does not apply to {target.name} from here") from None

    def _target(self, connection: Connection, place: ConnectionTarget, table: str) -> Target:
        timeout = self.settings.database.statement_timeout
        with read_only(connection, place, statement_timeout=timeout):
            targets = resolve(connection, self.settings, read_server(connection))
        for target in targets:
            if target.name == table and not target.problems and target.unrepairable is None:
                return target
        raise UnlikeError(
            f"{table} cannot be repaired from here: it is not there, or not as declared; this"
            " worker's database or role differs from the coordinator's"
        )
