"""Says what each row of an answered batch comes to: a vector to write, an outcome, or another try.

Decides on values alone; asks nobody and enters nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from remediation.journal.outcome_ledger import outcome_of
from remediation.journal.outcomes import Outcome
from remediation.journal.quarantine import sent_for
from remediation.provider.errors import InputRejected, NotYet, Stopped, TextFails, Tries
from remediation.selection.batching import part_of
from remediation.table_repair.waiting_batches import WaitingBatch
from remediation.writing.table_statements import NewVector

if TYPE_CHECKING:
    from checks.settings.integrity_toml import Provider
    from checks.targets.target import Target
    from remediation.journal.outcomes import RowOutcome
    from remediation.provider.bisection import Isolated
    from remediation.provider.tokens import TokenCounter
    from remediation.selection.batching import Batch, FailingRow


@dataclass(frozen=True, kw_only=True, slots=True)
class AnsweredRows:
    """The rows of one batch, each in one place; of some that have a vector, what is to be noted."""

    vectors: list[NewVector] = field(default_factory=list)
    outcomes: list[RowOutcome] = field(default_factory=list)
    to_ask_again: list[WaitingBatch] = field(default_factory=list)
    notes: list[tuple[FailingRow, str]] = field(default_factory=list)


def answered_rows(
    batch: Batch,
    answer: Isolated,
    *,
    target: Target,
    provider: Provider,
    counter: TokenCounter,
    stopped: str,
) -> AnsweredRows:
    """What an answer makes of its batch's rows; `stopped` is why a request was not made, if so."""
    came = AnsweredRows(to_ask_again=_to_ask_again(batch, answer, counter))
    for position, (row, outcome) in enumerate(zip(batch.rows, answer.outcomes, strict=True)):
        if isinstance(outcome, TextFails):
            came.outcomes.append(outcome_of(row, Outcome.FAILED, outcome.reason))
        elif isinstance(outcome, InputRejected):
            # By what was sent of it, a later run knows that it need not ask again; what was not
            # sent, as too much for the limits of the settings, it may ask for.
            sent = sent_for(row, target, provider, counter) if outcome.usage.requests else None
            quarantined = outcome_of(row, Outcome.QUARANTINED, outcome.reason)
            came.outcomes.append(replace(quarantined, refused=sent))
        elif outcome is not None:
            if position in answer.cut:
                came.notes.append((row, answer.cut[position]))
            came.vectors.append(NewVector(row=row, vector=outcome))
        elif isinstance(answer.failure, Stopped):
            came.outcomes.append(outcome_of(row, Outcome.SKIPPED, stopped))
        elif answer.failure is not None and not isinstance(answer.failure, NotYet):
            came.outcomes.append(outcome_of(row, Outcome.FAILED, answer.failure.reason))
    return came


def _to_ask_again(batch: Batch, answer: Isolated, counter: TokenCounter) -> list[WaitingBatch]:
    """What an answer left to be asked for again, each group as a batch."""
    tries = answer.failure.tries if isinstance(answer.failure, NotYet) else Tries()
    left = []
    for group in answer.left:
        part = part_of(batch, [batch.rows[position] for position in group], counter)
        left.append(WaitingBatch(batch=part, tries=tries, reserved=True))
        tries = Tries()
    return left
