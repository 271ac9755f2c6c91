"""What is sent to the provider, and when: within the caps, each tenant's batches in their order.

Sends batches, puts them aside, or gives their rows an outcome; waits for nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remediation.ending import INTERRUPTED
from remediation.provider.errors import NotYet
from remediation.provider.tries import Tries
from remediation.selection.batching import part_of
from remediation.table_repair.deferred_batches import Parked, Waiting
from remediation.throttling.hold import keys_must_wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remediation.ending import Ending
    from remediation.journal.outcome_ledger import Settlement
    from remediation.provider.bisection import Isolated
    from remediation.provider.tokens import TokenCounter
    from remediation.selection.batching import Batch
    from remediation.table_repair.admission import Admission
    from remediation.table_repair.worker_pool import Flight
    from remediation.throttling.budget import Budget
    from remediation.throttling.hold import Hold
    from remediation.throttling.throttle import Throttle
    from remediation.writing.locked_rows import LockedRows


@dataclass(kw_only=True, slots=True)
class Sending:
    """Of one table; used by one thread."""

    flight: Flight
    admission: Admission
    budget: Budget
    counter: TokenCounter
    throttle: Throttle
    locked: LockedRows
    settlement: Settlement
    ending: Ending
    _parked: Parked = field(default_factory=Parked)

    def __bool__(self) -> bool:
        """Whether a batch is put aside."""
        return bool(self._parked)

    def take(self, batch: Batch) -> bool:
        """Send a new batch, put it aside, or give its rows their outcome where nothing may be sent.

        False where none of these can be done before something comes back.
        """
        waiting = Waiting(batch=batch)
        behind = self._parked.holds(batch.tenant)
        if not behind and self._may_go(waiting):
            self._send(waiting)
            return True
        aside = behind or self.admission.key_must_wait(batch, self.flight)
        if aside and not self._parked.full:
            self._parked.put(waiting)
            return True
        return False

    def give_up(self) -> None:
        """Send nothing that was put aside: another table may need what is reserved for it."""
        while (waiting := self._parked.take(lambda _: True)) is not None:
            if waiting.reserved:
                self.budget.settle(reserved=waiting.batch.tokens, billed=0)

    def send_parked(self) -> None:
        """Send what was put aside, as far as its time has come."""
        while (waiting := self._parked.take(self._may_go)) is not None:
            self._send(waiting)

    def ask_again(self, batch: Batch, answer: Isolated) -> int:
        """Put aside what an answer left to be asked for again, each group as a batch.

        Returns their tokens, which stay reserved.
        """
        tokens = 0
        tries = answer.failure.tries if isinstance(answer.failure, NotYet) else Tries()
        for group in answer.left:
            part = part_of(batch, [batch.rows[position] for position in group], self.counter)
            self._parked.put(Waiting(batch=part, tries=tries, reserved=True))
            tokens, tries = tokens + part.tokens, Tries()
        return tokens

    def pauses(self) -> Iterator[float]:
        """Seconds until the keys of the batches that are put aside may be used again."""
        for batch in self._parked.batches:
            seconds = self.admission.key_must_wait(batch, self.flight)
            if seconds > 0.0:
                yield seconds

    def hold(self) -> Hold | None:
        """What keeps all that is put aside waiting while nothing is in flight, or None."""
        seconds = 0.0 if self.flight else min(self.pauses(), default=0.0)
        return keys_must_wait(seconds) if seconds > 0.0 else None

    def _may_go(self, waiting: Waiting) -> bool:
        """Whether a batch is to be sent now, or to be given up."""
        # What was let through before a cap was reached is finished, as what is in flight is.
        if self.ending.stop.is_set() or (self.ending.reason and not waiting.reserved):
            return True
        return not (
            self.throttle.hold() is not None
            or self.locked.hold_up_asking
            or self.admission.must_wait(waiting, self.flight)
            or self.admission.key_must_wait(waiting.batch, self.flight)
        )

    def _send(self, waiting: Waiting) -> None:
        """Send a batch, or as much of it as is worth asking for and the caps allow."""
        batch, settled = self.admission.worth_asking(waiting.batch)
        self.settlement.settle(settled)
        if waiting.reserved:
            self._send_again(waiting, batch)
            return
        if self.ending.reason:
            self.settlement.skip(batch.rows, self.ending.reason)
            return
        sent, cap = self.admission.within_caps(batch)
        if sent.rows:
            self.budget.reserve(rows=len(sent.rows), tokens=sent.tokens)
            self.flight.ask(sent, waiting.tries)
        if cap is not None:
            self.settlement.skip(
                batch.rows[len(sent.rows) :], self.ending.end(cap, rest_is_counted=True)
            )

    def _send_again(self, waiting: Waiting, batch: Batch) -> None:
        """Send what is left of a batch that came back, whose tokens are reserved."""
        if self.ending.stop.is_set():
            self.settlement.skip(batch.rows, self.ending.end(INTERRUPTED))
            batch = part_of(batch, (), self.counter)
        self.budget.settle(reserved=waiting.batch.tokens - batch.tokens, billed=0)
        if batch.rows:
            self.flight.ask(batch, waiting.tries)
