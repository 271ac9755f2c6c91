"""Takes in what comes back of a batch: each row is settled, written, or asked for again.

Sends nothing and waits for nothing; what stops the repair, it tells the `Ending`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from remediation.interruptible import INTERRUPTED, words_of
from remediation.journal.outcome_ledger import outcome_of
from remediation.journal.outcomes import Outcome
from remediation.journal.quarantine import sent_for
from remediation.provider.errors import InputRejected, KeyRefused, NotYet, Stopped
from remediation.selection.batching import part_of
from remediation.writing.table_statements import NewVector
from remediation.writing.verdicts import Written, unread_outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.settings.integrity_toml import Provider
    from checks.targets.target import Target
    from remediation.interruptible import Ending
    from remediation.journal.outcome_ledger import OutcomeLedger
    from remediation.provider.bisection import Isolated
    from remediation.provider.tokens import TokenCounter
    from remediation.selection.batching import Batch
    from remediation.table_repair.circuit_breaker import CircuitBreaker
    from remediation.table_repair.dispatch import Dispatch
    from remediation.table_repair.worker_pool import Finished, WorkerPool
    from remediation.throttling.budget import Budget
    from remediation.writing.edits import Edits
    from remediation.writing.frozen_sets import Answers
    from remediation.writing.locked_rows import LockedRows
    from remediation.writing.verdicts import LockedRow


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """Of one table; used by one thread."""

    target: Target
    provider: Provider
    counter: TokenCounter
    pool: WorkerPool
    dispatch: Dispatch
    locked: LockedRows
    edits: Edits
    answers: Answers
    breaker: CircuitBreaker
    budget: Budget
    ledger: OutcomeLedger
    ending: Ending

    def take_in(self, finished: Finished) -> None:
        """Settle what came back, or see to what is next. Raises what is not foreseen."""
        if isinstance(finished.result, BaseException):
            self._failed(finished, finished.result)
        elif isinstance(finished.result, Written):
            self._written(finished.batch, finished.result)
        else:
            self._answered(finished.batch, finished.result)

    def _failed(self, finished: Finished, error: BaseException) -> None:
        """Settle a batch that raised; only a tenant without a key is foreseen."""
        batch = finished.batch
        if not finished.writing:
            self.budget.settle(reserved=batch.tokens)
        self.locked.settled(row.key for row in batch.rows)
        failed = [outcome_of(row, Outcome.FAILED, words_of(error)) for row in batch.rows]
        self.ledger.settle([replace(outcome, uncertain=finished.writing) for outcome in failed])
        if not isinstance(error, KeyRefused):
            raise error
        self.breaker.answered(batch.tenant, error)

    def _answered(self, batch: Batch, answer: Isolated) -> None:
        reserved = batch.tokens - self.dispatch.ask_again(batch, answer)
        self.budget.settle(reserved=reserved, took=answer.usage)
        self.breaker.answered(batch.tenant, answer.failure, answer.usage)
        vectors = []
        for position, (row, outcome) in enumerate(zip(batch.rows, answer.outcomes, strict=True)):
            if isinstance(outcome, InputRejected):
                quarantined = outcome_of(row, Outcome.QUARANTINED, outcome.reason)
                # By what was sent of it, a later run knows that it need not ask again; what was
                # not sent, as too much for the limits of the settings, it may ask for.
                sent = (
                    sent_for(row, self.target, self.provider, self.counter)
                    if outcome.usage.requests
                    else None
                )
                self.ledger.settle([replace(quarantined, refused=sent)])
            elif outcome is not None:
                if position in answer.cut:
                    self.ledger.note(row, answer.cut[position])
                vectors.append(NewVector(row=row, vector=outcome))
            elif isinstance(answer.failure, Stopped):
                self.ledger.skip([row], self.ending.end(INTERRUPTED))
            elif answer.failure is not None and not isinstance(answer.failure, NotYet):
                self.ledger.settle([outcome_of(row, Outcome.FAILED, answer.failure.reason)])
        if vectors:
            kept = part_of(batch, [new.row for new in vectors], self.counter)
            self.pool.write(kept, vectors)

    def _written(self, batch: Batch, written: Written[NewVector]) -> None:
        if written.stopped is not None:
            self.ending.break_off(written.stopped)
        self.locked.settled(outcome.row.key for outcome in written.outcomes)
        self._let_wait(batch, written.held)
        outcomes = self.answers.judge(written.outcomes)
        self.breaker.written(outcomes)
        again = [outcome for outcome in outcomes if outcome.try_again]
        for outcome in again:
            self.edits.keep(outcome)
        # What was written of them before they changed is for an undo to know.
        self.ledger.enter(again)
        self.ledger.settle([outcome for outcome in outcomes if not outcome.try_again])

    def _let_wait(self, batch: Batch, held: Sequence[LockedRow[NewVector]]) -> None:
        """Write rows later that another session holds, or give them up."""
        if not held or self.ending.stop.is_set():
            return
        waiting = part_of(batch, [each.new.row for each in held], self.counter)
        given_up = self.locked.put(waiting, held)
        if not given_up:
            return
        hopeless = self.locked.hopeless(given_up)
        if hopeless is not None:
            self.ending.end(hopeless, rest_is_counted=True)
        self.locked.settled(each.new.row.key for each in given_up)
        reason = self.locked.reason
        self.ledger.settle(
            [
                unread_outcome(each.new.row, Outcome.SKIPPED, reason, each.attempt)
                for each in given_up
            ]
        )
