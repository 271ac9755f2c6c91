"""Which rows of a batch may be sent: a working key, a check that heals, and room under the caps.

Counts and values only; sends nothing and enters no outcome.
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
    from remediation.table_repair.circuit_breaker import Lessons
    from remediation.table_repair.deferred_batches import Waiting
    from remediation.table_repair.worker_pool import Flight
    from remediation.throttling.budget import Budget


@dataclass(frozen=True, kw_only=True, slots=True)
class Admission:
    """Of one table's batches; used by one thread."""

    budget: Budget
    lessons: Lessons
    embedders: Embedders
    counter: TokenCounter

    def must_wait(self, waiting: Waiting, flight: Flight) -> bool:
        """Whether something in flight must come back before the batch is sent."""
        return (
            flight.full
            or self.lessons.check_is_unproven(waiting.batch, flight.batches)
            # What is in flight is reserved by its estimate, and may come to less.
            or (
                bool(flight)
                and not waiting.reserved
                and not self.budget.affords(waiting.batch.tokens)
            )
        )

    def key_must_wait(self, batch: Batch, flight: Flight) -> float:
        """Seconds for which the batch can be put aside, and others sent: its key has to wait.

        0.0 where it need not, or where waiting is no use.
        """
        if batch.tenant in self.lessons.stopped_tenants:
            return 0.0
        if self.lessons.key_is_unproven(batch, flight.batches):
            return LOOK_AGAIN
        return self.embedders.seconds_to_wait(batch.tenant, batch.tokens)

    def worth_asking(self, batch: Batch) -> tuple[Batch, list[RowOutcome]]:
        """The rows of a tenant with a working key that fail a check whose repair heals.

        And the outcomes of the others.
        """
        keep: list[FailingRow] = []
        settled: list[RowOutcome] = []
        for row in batch.rows:
            hopeless = self.lessons.hopeless(row)
            if hopeless is None:
                keep.append(row)
            else:
                settled.append(outcome_of(row, Outcome.SKIPPED, hopeless))
        refused = self.lessons.stopped_tenants.get(batch.tenant)
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
