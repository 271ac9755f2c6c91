"""Sends batches on their way: those whose turn it is, whose key is free, and which the caps allow.

Reads further rows as long as none that waits may go. What tenants whose endpoints are late have
waiting makes way for others: it is put aside, and read again later. Waits for nothing; used by one
thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from remediation.ending import INTERRUPTED
from remediation.selection.batching import part_of
from remediation.table_repair.waiting_batches import (
    MOST_LATE,
    MOST_WAITING,
    WaitingBatch,
    WaitingBatches,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from remediation.ending import Ending
    from remediation.journal.outcome_ledger import OutcomeLedger
    from remediation.provider.tokens import TokenCounter
    from remediation.selection.batching import Batch
    from remediation.selection.put_aside import PutAside
    from remediation.table_repair.admission import Admission
    from remediation.table_repair.flight import Flight
    from remediation.table_repair.source import Source
    from remediation.table_repair.tenant_endpoints import TenantEndpoints
    from remediation.throttling.budget import Budget
    from remediation.throttling.throttle import Throttle
    from remediation.writing.locked_rows import LockedRows


@dataclass(kw_only=True, slots=True)
class Dispatch:
    """Of one table's batches, from where they are read into the flight."""

    admission: Admission
    flight: Flight
    ahead: int
    """Batches that are read ahead while no more may be asked for: what may go next."""
    ledger: OutcomeLedger
    ending: Ending
    budget: Budget
    counter: TokenCounter
    throttle: Throttle
    locked: LockedRows
    source: Source
    aside: PutAside
    """Rows of late tenants that others are read before."""
    endpoints: TenantEndpoints
    others_wait: Callable[[], bool]
    """Whether a table that is still to come has rows of tenants who are not late."""
    _coming: Iterator[Batch] | None = None
    """The batches that are still to be read; None where there are none."""
    _reading_aside: Iterator[Batch] | None = None
    """The same of rows that were put aside."""
    _again: bool = False
    """Whether rows are repaired that were edited meanwhile."""
    _waiting: WaitingBatches = field(default_factory=WaitingBatches)

    def __bool__(self) -> bool:
        """Whether anything is still to be sent."""
        return self._coming is not None or len(self._waiting) > 0 or self._more_is_read()

    def begin(self, coming: Iterator[Batch], *, again: bool = False) -> None:
        """Send these from now on, as `send` is called; `again` where they were edited meanwhile."""
        self._coming, self._again = coming, again

    def put_back(self, returned: Sequence[WaitingBatch]) -> None:
        """Send what came back once more, ahead of what its tenant has not begun."""
        self._waiting.put_back(returned)

    def send(self) -> None:
        """Send what may go, reading on as long as none that waits may."""
        held = self._is_held_up()
        while True:
            waiting = self._waiting.take(partial(self._may_go, held=held))
            if waiting is not None:
                self._ask(waiting)
                held = self._is_held_up()
            elif len(self._waiting) >= self._enough:
                if held or not self.put_aside(MOST_LATE):
                    return
            elif (batch := self._next()) is not None:
                self._waiting.put(WaitingBatch(batch=batch))
            else:
                return

    def _next(self) -> Batch | None:
        """Read on: all that comes, then what was put aside."""
        if self._coming is not None:
            if (batch := next(self._coming, None)) is not None:
                return batch
            self._coming = None
        while self._more_is_read():
            if self._reading_aside is None:
                self._reading_aside = self.source.put_aside(self.aside, self._waiting.lack)
            if (batch := next(self._reading_aside, None)) is not None:
                return batch
            self._reading_aside = None
        return None

    @property
    def seconds_to_wait(self) -> float:
        """Until a key that must wait may be used; 0.0 where none must."""
        waits = [self.admission.seconds_to_wait(w.batch, self.flight) for w in self._waiting.first]
        return min(filter(None, waits), default=0.0)

    def let_go(self) -> None:
        """Forget what was not sent: another table may need what is reserved for it."""
        while (waiting := self._waiting.take(lambda _: True)) is not None:
            if waiting.reserved:
                self.budget.settle(reserved=waiting.batch.tokens)

    @property
    def _is_paused(self) -> bool:
        """Whether nothing is to be sent for now: a read could wait for the same lock."""
        return self.locked.hold_up_asking or self.throttle.hold() is not None

    def _is_held_up(self) -> bool:
        """Whether nothing may be sent now, whatever it is."""
        return self.flight.full or self._is_paused

    @property
    def _enough(self) -> int:
        """Batches that wait while no further rows are read."""
        if not self.ending.reason and self._is_paused:
            return 0
        return self.ahead if self.flight.full else MOST_WAITING

    def _may_go(self, waiting: WaitingBatch, *, held: bool) -> bool:
        """Whether a batch is to be sent now, or to be given up."""
        # What was let through before a cap was reached is finished, as what is in flight is.
        if self.ending.stop.is_set() or (self.ending.reason and not waiting.reserved):
            return True
        return not (
            held
            or self.flight.full_for(waiting.batch.tenant)
            or self._waits_for_others(waiting.batch.tenant)
            or self.admission.must_wait(waiting, self.flight)
            or self.admission.seconds_to_wait(waiting.batch, self.flight)
        )

    def _ask(self, waiting: WaitingBatch) -> None:
        """Send a batch, or as much of it as is worth asking for and the caps allow."""
        batch, settled = self.admission.worth_asking(waiting.batch)
        self.ledger.settle(settled)
        if waiting.reserved:
            if self.ending.stop.is_set():
                self.ledger.skip(batch.rows, self.ending.end(INTERRUPTED))
                batch = part_of(batch, (), self.counter)
            self.budget.settle(reserved=waiting.batch.tokens - batch.tokens)
        elif self.ending.reason:
            self.ledger.skip(batch.rows, self.ending.reason)
            return
        else:
            allowed, cap = self.admission.within_caps(batch)
            self.budget.reserve(rows=len(allowed.rows), tokens=allowed.tokens)
            if cap is not None:
                end = self.ending.end(cap, rest_is_counted=True)
                self.ledger.skip(batch.rows[len(allowed.rows) :], end)
            batch = allowed
        if batch.rows:
            self.flight.ask(batch, waiting.tries)

    # Of tenants whose endpoints are late

    @property
    def only_late_left(self) -> bool:
        """Whether nothing is left but what waits for endpoints that are late, and others wait."""
        if self._coming or self.locked or self.flight.writing or self.ending.reason:
            return False
        left = {waiting.batch.tenant for waiting in self._waiting.first}
        left |= self.flight.tenants_asked.keys()
        return bool(left) and all(map(self._waits_for_others, left))

    def put_aside(self, most: int) -> bool:
        """Put aside what late tenants have waiting beyond so many batches; whether any was.

        Not of rows that were edited: only who keeps them knows what was written to them.
        """
        if self._again or self.ending.reason:
            return False
        taken = list(self._waiting.take_last(self.endpoints.late, most=most))
        for waiting in taken:
            batch = waiting.batch
            if waiting.reserved:
                self.budget.reserve(rows=-len(batch.rows), tokens=-batch.tokens)
            for row in batch.rows:
                self.ledger.put_aside(row)
            self.aside.put(batch.rows)
        return bool(taken)

    def _waits_for_others(self, tenant: str | None) -> bool:
        """Whether a tenant's turn comes after that of another table."""
        stays = self._again or self._reading_aside
        return tenant in self.endpoints.late and not stays and self.others_wait()

    def _more_is_read(self) -> bool:
        """Whether rows that were put aside are to be read now."""
        if self.ending.reason or self._waiting.of(self.endpoints.late) >= MOST_LATE:
            return False
        return self._reading_aside is not None or (
            any(map(self._waiting.lack, self.aside.tenants)) and not self.others_wait()
        )
