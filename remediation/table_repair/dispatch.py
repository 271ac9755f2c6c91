"""Sends batches to the provider: within the caps, each tenant's in their order.

Puts others aside, or gives their rows an outcome; waits for nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remediation.interruptible import INTERRUPTED
from remediation.journal.outcome_ledger import outcome_of
from remediation.journal.outcomes import Outcome, RowOutcome
from remediation.provider.errors import NotYet, Tries
from remediation.provider.keys import MissingKey
from remediation.provider.rate_limits import LOOK_AGAIN
from remediation.selection.batching import part_of
from remediation.throttling.wait_reasons import keys_must_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remediation.interruptible import Ending
    from remediation.journal.outcome_ledger import OutcomeLedger
    from remediation.provider.bisection import Isolated
    from remediation.provider.embedders import Embedders
    from remediation.provider.tokens import TokenCounter
    from remediation.selection.batching import Batch, FailingRow
    from remediation.table_repair.circuit_breaker import CircuitBreaker
    from remediation.table_repair.worker_pool import WorkerPool
    from remediation.throttling.budget import Budget
    from remediation.throttling.throttle import Throttle
    from remediation.throttling.wait_reasons import WaitReason
    from remediation.writing.locked_rows import LockedRows


@dataclass(frozen=True, kw_only=True, slots=True)
class Admission:
    """Of one table's batches; used by one thread."""

    budget: Budget
    breaker: CircuitBreaker
    embedders: Embedders
    counter: TokenCounter

    def must_wait(self, waiting: DeferredBatch, pool: WorkerPool) -> bool:
        """Whether something in flight must come back before the batch is sent."""
        return (
            pool.full
            or self.breaker.check_is_unproven(waiting.batch, pool.batches)
            # What is in flight is reserved by its estimate, and may come to less.
            or (
                bool(pool)
                and not waiting.reserved
                and not self.budget.affords(waiting.batch.tokens)
            )
        )

    def key_must_wait(self, batch: Batch, pool: WorkerPool) -> float:
        """Seconds for which the batch can be put aside, and others sent: its key has to wait.

        0.0 where it need not, or where waiting is no use.
        """
        if batch.tenant in self.breaker.stopped_tenants:
            return 0.0
        if self.breaker.key_is_unproven(batch, pool.batches):
            return LOOK_AGAIN
        return self.embedders.seconds_to_wait(batch.tenant, batch.tokens)

    def worth_asking(self, batch: Batch) -> tuple[Batch, list[RowOutcome]]:
        """The rows of a tenant with a working key that fail a check whose repair heals.

        And the outcomes of the others.
        """
        keep: list[FailingRow] = []
        settled: list[RowOutcome] = []
        for row in batch.rows:
            hopeless = self.breaker.hopeless(row)
            if hopeless is None:
                keep.append(row)
            else:
                settled.append(outcome_of(row, Outcome.SKIPPED, hopeless))
        refused = self.breaker.stopped_tenants.get(batch.tenant)
        if refused is None:
            key = self.embedders.keys.find(batch.tenant)
            refused = key.reason if isinstance(key, MissingKey) else None
        if refused is not None:
            settled += [outcome_of(row, Outcome.FAILED, refused) for row in keep]
            keep = []
        return part_of(batch, keep, self.counter), settled

    def within_caps(self, batch: Batch) -> tuple[Batch, str | None]:
        """As much of the batch as the caps allow, and the cap that cut it short."""
        left = self.budget.rows_left()
        allowed = part_of(batch, batch.rows[:left], self.counter)
        if allowed.rows and not self.budget.affords(allowed.tokens):
            return part_of(batch, (), self.counter), self.budget.no_money_left
        return allowed, self.budget.no_rows_left if left < len(batch.rows) else None


MOST_DEFERRED = 64
"""Batches put aside before they are sent: beyond it the stream of rows waits with them. Those that
come back from the provider are put aside whatever their number, which `concurrency` bounds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeferredBatch:
    """A batch that is not sent yet, or is to be sent again after the tries that failed."""

    batch: Batch
    tries: Tries = field(default_factory=Tries)
    reserved: bool = False
    """Whether it was let through under the caps before, and its tokens are reserved."""


class DeferredBatches:
    """In the order in which they were put aside, those that were tried most often first."""

    def __init__(self) -> None:
        self._waiting: list[DeferredBatch] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        return len(self._waiting) >= MOST_DEFERRED

    @property
    def batches(self) -> Iterator[Batch]:
        return (waiting.batch for waiting in self._waiting)

    def holds(self, tenant: str | None) -> bool:
        """Whether a batch of the tenant is put aside: a later one does not overtake it."""
        return any(batch.tenant == tenant for batch in self.batches)

    def put(self, waiting: DeferredBatch) -> None:
        """Put a batch aside."""
        self._waiting.append(waiting)
        # Stable: of one key the batch that failed is tried to its end before the next is begun.
        self._waiting.sort(key=lambda each: -each.tries.failed)

    def take(self, may_go: Callable[[DeferredBatch], bool]) -> DeferredBatch | None:
        """The first that may go, or None; of a tenant none before the one ahead of it."""
        behind: set[str | None] = set()
        for position, waiting in enumerate(self._waiting):
            if waiting.batch.tenant in behind:
                continue
            if may_go(waiting):
                return self._waiting.pop(position)
            behind.add(waiting.batch.tenant)
        return None


@dataclass(kw_only=True, slots=True)
class Dispatch:
    """Of one table; used by one thread."""

    pool: WorkerPool
    admission: Admission
    budget: Budget
    counter: TokenCounter
    throttle: Throttle
    locked: LockedRows
    ledger: OutcomeLedger
    ending: Ending
    _deferred: DeferredBatches = field(default_factory=DeferredBatches)

    def __bool__(self) -> bool:
        """Whether a batch is put aside."""
        return bool(self._deferred)

    def take(self, batch: Batch) -> bool:
        """Send a new batch, put it aside, or give its rows their outcome where nothing may be sent.

        False where none of these can be done before something comes back.
        """
        waiting = DeferredBatch(batch=batch)
        behind = self._deferred.holds(batch.tenant)
        if not behind and self._may_go(waiting):
            self._send(waiting)
            return True
        aside = behind or self.admission.key_must_wait(batch, self.pool)
        if aside and not self._deferred.full:
            self._deferred.put(waiting)
            return True
        return False

    def give_up(self) -> None:
        """Send nothing that was put aside: another table may need what is reserved for it."""
        while (waiting := self._deferred.take(lambda _: True)) is not None:
            if waiting.reserved:
                self.budget.settle(reserved=waiting.batch.tokens)

    def send_deferred(self) -> None:
        """Send what was put aside, as far as its time has come."""
        while (waiting := self._deferred.take(self._may_go)) is not None:
            self._send(waiting)

    def ask_again(self, batch: Batch, answer: Isolated) -> int:
        """Put aside what an answer left to be asked for again, each group as a batch.

        Returns their tokens, which stay reserved.
        """
        tokens = 0
        tries = answer.failure.tries if isinstance(answer.failure, NotYet) else Tries()
        for group in answer.left:
            part = part_of(batch, [batch.rows[position] for position in group], self.counter)
            self._deferred.put(DeferredBatch(batch=part, tries=tries, reserved=True))
            tokens, tries = tokens + part.tokens, Tries()
        return tokens

    def pauses(self) -> Iterator[float]:
        """Seconds until the keys of the batches that are put aside may be used again."""
        for batch in self._deferred.batches:
            seconds = self.admission.key_must_wait(batch, self.pool)
            if seconds > 0.0:
                yield seconds

    def hold(self) -> WaitReason | None:
        """What keeps all that is put aside waiting while nothing is in flight, or None."""
        seconds = 0.0 if self.pool else min(self.pauses(), default=0.0)
        return keys_must_wait(seconds) if seconds > 0.0 else None

    def _may_go(self, waiting: DeferredBatch) -> bool:
        """Whether a batch is to be sent now, or to be given up."""
        # What was let through before a cap was reached is finished, as what is in flight is.
        if self.ending.stop.is_set() or (self.ending.reason and not waiting.reserved):
            return True
        return not (
            self.throttle.hold() is not None
            or self.locked.hold_up_asking
            or self.admission.must_wait(waiting, self.pool)
            or self.admission.key_must_wait(waiting.batch, self.pool)
        )

    def _send(self, waiting: DeferredBatch) -> None:
        """Send a batch, or as much of it as is worth asking for and the caps allow."""
        batch, settled = self.admission.worth_asking(waiting.batch)
        self.ledger.settle(settled)
        if waiting.reserved:
            self._send_again(waiting, batch)
            return
        if self.ending.reason:
            self.ledger.skip(batch.rows, self.ending.reason)
            return
        sent, cap = self.admission.within_caps(batch)
        if sent.rows:
            self.budget.reserve(rows=len(sent.rows), tokens=sent.tokens)
            self.pool.ask(sent, waiting.tries)
        if cap is not None:
            self.ledger.skip(
                batch.rows[len(sent.rows) :], self.ending.end(cap, rest_is_counted=True)
            )

    def _send_again(self, waiting: DeferredBatch, batch: Batch) -> None:
        """Send what is left of a batch that came back, whose tokens are reserved."""
        if self.ending.stop.is_set():
            self.ledger.skip(batch.rows, self.ending.end(INTERRUPTED))
            batch = part_of(batch, (), self.counter)
        self.budget.settle(reserved=waiting.batch.tokens - batch.tokens)
        if batch.rows:
            self.pool.ask(batch, waiting.tries)
