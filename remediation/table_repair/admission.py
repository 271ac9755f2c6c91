"""Decides what of a batch is sent, and when its key may be used; the rest gets an outcome.

Decides on what is known; sends nothing and waits for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remediation.journal.outcome_ledger import outcome_of
from remediation.journal.outcomes import Outcome, RowOutcome
from remediation.provider.keys import MissingKey
from remediation.provider.rate_limits import LOOK_AGAIN
from remediation.selection.batching import part_of

if TYPE_CHECKING:
    from remediation.provider.embedders import Embedders
    from remediation.provider.tokens import TokenCounter
    from remediation.selection.batching import Batch, FailingRow
    from remediation.table_repair.circuit_breaker import CircuitBreaker
    from remediation.table_repair.flight import Flight
    from remediation.table_repair.probing.late_probes import LateProbes
    from remediation.table_repair.waiting_batches import WaitingBatch
    from remediation.throttling.budget import Budget


@dataclass(frozen=True, kw_only=True, slots=True)
class Admission:
    """Of one table's batches; used by one thread."""

    budget: Budget
    breaker: CircuitBreaker
    embedders: Embedders
    counter: TokenCounter
    late: LateProbes
    """Their tenants wait for them."""

    def must_wait(self, waiting: WaitingBatch, flight: Flight) -> bool:
        """Whether something in flight must come back before the batch is sent."""
        proving = flight.soon_back(waiting.batch.tenant)
        return self.breaker.check_is_unproven(waiting.batch, proving) or (
            # What is in flight is reserved by its estimate, and may come to less.
            bool(flight) and not waiting.reserved and not self.budget.affords(waiting.batch.tokens)
        )

    def seconds_to_wait(self, batch: Batch, flight: Flight) -> float:
        """Seconds for which the batch's key has to wait, while others may be sent.

        0.0 where it need not, or where waiting is no use.
        """
        if batch.tenant in self.breaker.stopped_tenants:
            return 0.0
        if batch.tenant in self.late.tenants:
            return LOOK_AGAIN
        if self.breaker.key_is_unproven(batch.tenant) and batch.tenant in flight.tenants_asked:
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
            refused = key.cause if isinstance(key, MissingKey) else None
        if refused is not None:
            settled += [outcome_of(row, Outcome.FAILED, refused) for row in keep]
            keep = []
        return part_of(batch, keep, self.counter), settled

    def within_caps(self, batch: Batch) -> tuple[Batch, str | None]:
        """As much of the batch as the caps allow, and the cap that cut it short."""
        left = self.budget.grant(len(batch.rows))
        allowed = part_of(batch, batch.rows[:left], self.counter)
        if allowed.rows and not self.budget.affords(allowed.tokens):
            return part_of(batch, (), self.counter), self.budget.no_money_left
        return allowed, self.budget.no_rows_left if left < len(batch.rows) else None
