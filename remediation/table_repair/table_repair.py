"""Repairs one table from its lock to its result: probe, engine, what came of it.

Knows no other table; what a run shares among tables, it is given.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from checks.database.connection import connect
from checks.errors import CannotExamineError
from remediation.ending import INTERRUPTED, out_of_memory, words_of
from remediation.journal.journal import journal_words
from remediation.journal.outcomes import Account, Outcome
from remediation.journal.vain_writes import VainWrites
from remediation.provider.embedders import Embedders
from remediation.selection.put_aside import PutAside
from remediation.table_repair.circuit_breaker import CircuitBreaker, healed_by_any_vector
from remediation.table_repair.engine import Engine
from remediation.table_repair.probing.late_probes import LateProbes
from remediation.table_repair.probing.probe import Probed, ProbeResult, probe
from remediation.table_repair.probing.samples import samples
from remediation.table_repair.probing.second_look import SecondLook
from remediation.table_repair.result import TableRepair
from remediation.throttling.throttle import POLL_SECONDS, Throttle
from remediation.writing.locked_rows import PATIENCE_SECONDS, LockedRows
from remediation.writing.repair_lock import LockLostError, RepairLock, TableLockedError
from remediation.writing.triggers import circumstances, triggers_fired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from checks.database.connection import Connection, ConnectionTarget
    from checks.settings.integrity_toml import Settings
    from remediation.journal.journal import Journal
    from remediation.journal.quarantine import Quarantine
    from remediation.journal.throughput import Throughput
    from remediation.provider.endpoint import Endpoint
    from remediation.provider.keys import KeyRing
    from remediation.provider.protocol import EmbeddingProvider
    from remediation.provider.rate_limits import RateLimits
    from remediation.provider.retry import RetryPolicy
    from remediation.provider.tokens import TokenCounter
    from remediation.selection.batching import FailingRow
    from remediation.selection.row_reader import RowReader
    from remediation.table_repair.planning.estimate import Estimate
    from remediation.table_repair.planning.plan import TablePlan
    from remediation.table_repair.row_repair import EngineOf, RowRepair
    from remediation.table_repair.tenant_endpoints import TenantEndpoints
    from remediation.throttling.budget import Budget
    from remediation.throttling.wait_reasons import WaitReason


@dataclass(kw_only=True)
class TableWork:
    """One table's repair. Create, `run()`, read `result`, also when that raised.

    Where `puts_aside` is true then, `run()` again once no other table waits.
    """

    reader: RowReader
    planned: TablePlan
    settings: Settings
    place: ConnectionTarget
    run_id: str
    keys: KeyRing
    limits: RateLimits
    provider_at: Callable[[Endpoint], EmbeddingProvider]
    endpoint: Endpoint
    counter: TokenCounter
    journal: Journal
    budget: Budget
    throttle: Throttle
    on_outcome: Callable[[Outcome], None]
    on_probed: Callable[[Estimate], None]
    """Called after a probe that was answered, with how long the rest takes at its pace."""
    tenants: tuple[str, ...] | None
    retry: RetryPolicy | None
    lock_patience: float = PATIENCE_SECONDS
    """Seconds that a row may stay locked by another session before it is given up."""
    quarantine: Quarantine
    endpoints: TenantEndpoints
    others_wait: Callable[[], bool]
    """Whether a table that is still to come has rows of tenants who are not late."""
    engine_of: EngineOf = Engine

    _engine: RowRepair | None = None
    _account: Account = field(default_factory=Account)
    _aside: PutAside = field(default_factory=PutAside)
    _earlier: Throughput | None = None
    """Of an earlier call."""
    _probes: tuple[ProbeResult, ...] = ()
    _stopped: str | None = None
    _seconds: float = 0.0

    def __post_init__(self) -> None:
        self._breaker = CircuitBreaker(
            table=self.planned.table,
            endpoints=self.endpoints,
            healed_anyway=healed_by_any_vector(self.reader.target),
            stopped_checks=dict(self.planned.hopeless),
        )

    @property
    def puts_aside(self) -> bool:
        """Whether rows of late tenants are left, which others are repaired before."""
        return bool(self._aside.tenants)

    @property
    def _throughput(self) -> Throughput | None:
        now = self._engine.throughput if self._engine else None
        return now + self._earlier if now and self._earlier else now

    @property
    def result(self) -> TableRepair:
        """What came of it so far."""
        engine = self._engine
        return TableRepair(
            table=self.planned.table,
            account=engine.account if engine else self._account,
            planned=self.planned.selected,
            usage=self._breaker.usage,
            stopped=(engine.stopped if engine else None)
            or self._stopped
            or "; ".join(dict.fromkeys(self._breaker.stopped_checks.values()))
            or None,
            probes=self._probes,
            seconds=self._seconds,
            throughput=self._throughput,
        )

    def run(self) -> None:
        """Repair the table. What the database or another repair refuses is in the result.

        Raises what is not foreseen, KeyboardInterrupt included.
        """
        begun = time.monotonic()
        self._stopped = None
        self._breaker.stopped_tenants |= self.endpoints.stopped
        try:
            self._locked()
        except (TableLockedError, LockLostError, CannotExamineError, psycopg.Error) as error:
            self._stopped = words_of(error)
        except OSError as error:
            self._stopped = journal_words(error)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                self._stopped = INTERRUPTED
                raise
            self._stopped = "no memory is left; give the run more, or lower concurrency"
        except BaseException:
            self._stopped = INTERRUPTED
            raise
        finally:
            self._seconds += time.monotonic() - begun
        if self._stopped is not None:
            self._leave()

    def _locked(self) -> None:
        stop = threading.Event()
        with ExitStack() as stack:
            connection = stack.enter_context(connect(self.place))
            lock = stack.enter_context(
                RepairLock(self.place, self.reader.target, run_id=self.run_id)
            )
            embedders = Embedders(
                self.endpoint,
                self.keys,
                provider_at=self.provider_at,
                stop=stop,
                limits=self.limits,
                counter=self.counter,
                models=self.reader.target.declared.tenant_models,
                retry=self.retry,
            )
            stack.callback(embedders.close)
            late = LateProbes(budget=self.budget, on_answer=self._learn_late)
            stack.callback(late.close)
            # Before it: no try follows the one that its endpoint has not answered yet.
            stack.callback(stop.set)
            probed = self._probe(connection, embedders, lock, stop, late)
            self._learn(probed)
            if probed.stopped is not None:
                return
            self.journal.begin_table(self.reader.target)
            self._earlier = self._throughput
            self._engine = self.engine_of(
                reader=self.reader,
                settings=self.settings,
                write_place=self.place,
                connection=connection,
                embedders=embedders,
                counter=self.counter,
                journal=self.journal,
                lock=lock,
                budget=self.budget,
                stop=stop,
                throttle=self.throttle,
                on_outcome=self.on_outcome,
                tenants=self.tenants,
                quarantine=self.quarantine,
                breaker=self._breaker,
                locked=LockedRows(patience=self.lock_patience),
                late=late,
                aside=self._aside,
                others_wait=self.others_wait,
                account=self._account,
            )
            self._engine.run()
            self._remember(connection)

    def _remember(self, connection: Connection) -> None:
        """Tell later runs what was written in vain, where triggers or own checks may be why."""
        target, breaker = self.reader.target, self._breaker
        unhealed = [name for name in breaker.stopped_checks if name not in self.planned.hopeless]
        if not unhealed and not breaker.broke:
            return
        own = {custom.name for custom in target.declared.custom}
        with self.reader.transaction(connection):
            triggers = triggers_fired(connection, target)
            now = circumstances(connection, target)
        vain = VainWrites(
            table=target.name,
            unhealed=tuple(name for name in unhealed if triggers or name in own),
            broke=tuple(name for name in breaker.broke if triggers or name in own),
            circumstances=now,
            reason=self.result.stopped or "",
        )
        if vain.unhealed or vain.broke:
            self.journal.wrote_in_vain(vain)

    def _wait(self, lock: RepairLock, stop: threading.Event) -> None:
        """Wait while the repair is paused. Raises LockLostError."""
        while self.throttle.hold() is not None:
            self._look(lock)
            stop.wait(POLL_SECONDS)
        self.throttle.tell()

    def _look(self, lock: RepairLock, waiting: WaitReason | None = None) -> None:
        """See to what must not wait while an answer or the end of a pause does."""
        self.throttle.tell(waiting)
        lock.beat()

    def _probe(
        self,
        connection: Connection,
        embedders: Embedders,
        lock: RepairLock,
        stop: threading.Event,
        late: LateProbes,
    ) -> Probed:
        if self.budget.rows_left() == 0:
            return Probed(stopped=self.budget.no_rows_left)
        provider = self.settings.provider
        groups = samples(
            connection,
            self.reader,
            tenants=self._to_probe(),
            rows=self.settings.repair.probe,
            provider=provider,
            counter=self.counter,
        )
        look_again = SecondLook(
            connection=connection,
            reader=self.reader,
            embedders=embedders,
            budget=self.budget,
            provider=provider,
            counter=self.counter,
            before_request=lambda: self._wait(lock, stop),
            meanwhile=lambda: self._look(lock),
            spent=self._breaker.spent,
        )
        return probe(
            groups,
            embedders,
            budget=self.budget,
            concurrency=provider.concurrency,
            least=self.settings.repair.probe_min_cosine,
            again=look_again.of,
            late=late,
            earlier=self._probes,
            before_request=lambda: self._wait(lock, stop),
            meanwhile=lambda waiting: self._look(lock, waiting),
            answered=lambda result: self._breaker.answered(
                result.tenant, result.failure, result.usage
            ),
        )

    def _to_probe(self) -> list[str | None]:
        """Tenants of whom rows are to be repaired, and nothing is known yet."""
        known = {*self.endpoints.stopped, *(result.tenant for result in self._probes)}
        planned = [line.tenant for line in self.planned.tenants if line.missing_key is None]
        return [
            tenant
            for tenant in planned
            if tenant not in known and (not self.puts_aside or tenant in self._aside.tenants)
        ]

    def _learn(self, probed: Probed) -> None:
        self._probes, self._stopped = probed.results, probed.stopped
        for result in probed.results:
            if result.refused is not None:
                self._breaker.stopped_tenants.setdefault(result.tenant, result.refused)
            elif probed.stopped is None:
                self._prove_name(result)
        answered = any(result.cosines for result in probed.results)
        if self._engine is None and self.planned.estimate is not None and answered:
            self.on_probed(self.planned.estimate.after_probe(self._breaker.usage.seconds))

    def _learn_late(self, result: ProbeResult) -> None:
        self._probes += (result,)
        self._breaker.answered(result.tenant, result.failure, result.usage)
        refused = result.refused or result.refused_late
        if refused is not None:
            self._breaker.stopped_tenants.setdefault(result.tenant, refused)
        else:
            self._prove_name(result)

    def _prove_name(self, agreed: ProbeResult) -> None:
        if agreed.cosines and agreed.endpoint is not None:
            self.limits.names.prove(agreed.endpoint, agreed.heard)

    def _leave(self) -> None:
        """Account for the rows that were not begun, where they can still be read."""
        if self._engine is not None:
            self._skip(self._aside.take_all())
            return
        with suppress(psycopg.Error, CannotExamineError), connect(self.place) as connection:
            self._skip(self.reader.failing_rows(connection, tenants=self.tenants, bare=True))

    def _skip(self, rows: Iterable[FailingRow]) -> None:
        for row in rows:
            self._account.selected += 1
            self._account.add(row, Outcome.SKIPPED, self._stopped or "")
            self.on_outcome(Outcome.SKIPPED)

    def close(self) -> None:
        """Let go of the keys of rows that were put aside."""
        self._aside.close()
