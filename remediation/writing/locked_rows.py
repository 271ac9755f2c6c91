"""Keeps rows that other sessions hold, vectors in hand, and says when each is written.

Keeps times and counts; writes nothing, and enters none of the outcomes that it gives.
"""

from __future__ import annotations

import heapq
import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remediation.journal.outcomes import Outcome
from remediation.writing.verdicts import unread_outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from remediation.journal.outcomes import RowOutcome
    from remediation.selection.batching import Key
    from remediation.writing.table_statements import NewVector
    from remediation.writing.verdicts import LockedRow

PATIENCE_SECONDS = 30.0
"""How long a row may stay locked, from its first try. Applications keep their transactions far
shorter; what holds rows for longer (ALTER TABLE, a forgotten session) may do so for hours."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
"""Between two tries of a row; pauses double. A try at a locked table costs a lock timeout."""
MOST_ROWS = 50
"""Rows that may wait before no more texts are sent: what the default request holds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wait:
    """Of one row: when it was first found locked, how often since, and whether with its table."""

    since: float
    tries: int
    whole: bool


@dataclass(kw_only=True, slots=True)
class LockedRows:
    """Of one table; used by one thread. Times are of the monotonic clock, in seconds."""

    patience: float = PATIENCE_SECONDS
    _waits: dict[Key, _Wait] = field(default_factory=dict)
    """Of every row that was found locked and has no outcome yet, those being written included."""
    _heap: list[tuple[float, int, list[LockedRow[NewVector]]]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __bool__(self) -> bool:
        """Whether a row waits for its time."""
        return bool(self._heap)

    @property
    def hold_up_asking(self) -> bool:
        """Whether texts that are sent now would be paid for and then wait: the table is locked,
        or many rows are.
        """
        return len(self._waits) > MOST_ROWS or any(wait.whole for wait in self._waits.values())

    def put(self, held: Sequence[LockedRow[NewVector]]) -> tuple[list[RowOutcome], str | None]:
        """Let rows wait; returns the outcomes of those whose last try this was.

        And why the next texts would fare no better, or None. A row is tried once more after its
        time is over, whatever held up that try.
        """
        now = time.monotonic()
        kept: list[LockedRow[NewVector]] = []
        given_up: list[LockedRow[NewVector]] = []
        for each in held:
            key = each.new.row.key
            before = self._waits.get(key)
            self._waits[key] = wait = _Wait(
                since=now if before is None else before.since,
                tries=1 if before is None else before.tries + 1,
                whole=each.whole,
            )
            (given_up if now - wait.since >= self.patience else kept).append(each)
        if kept:
            tries = min(self._waits[each.new.row.key].tries for each in kept)
            pause = min(FIRST_PAUSE_SECONDS * 2 ** (tries - 1), LONGEST_PAUSE_SECONDS)
            heapq.heappush(self._heap, (now + pause, next(self._numbers), kept))
        hopeless = self._hopeless(given_up)
        self.settled(each.new.row.key for each in given_up)
        return [
            unread_outcome(each.new.row, Outcome.SKIPPED, self._reason, each.attempt)
            for each in given_up
        ], hopeless

    @property
    def _reason(self) -> str:
        """Why a row was given up, in words."""
        return f"locked by another session for {self.patience:,.0f} s"

    def _hopeless(self, given_up: Sequence[LockedRow[NewVector]]) -> str | None:
        """Why the next texts would fare no better than these rows, or None."""
        if any(each.whole for each in given_up):
            return f"the table stayed {self._reason}"
        if given_up and self.hold_up_asking:
            return f"more than {MOST_ROWS} rows were locked, some of them {self._reason}"
        return None

    def take_due(self) -> Iterator[list[LockedRow[NewVector]]]:
        """Rows that are to be written now, as they were put; they wait no more once taken."""
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            yield heapq.heappop(self._heap)[2]

    def seconds_left(self) -> float | None:
        """Until the next row is due, None where none waits."""
        return max(0.0, self._heap[0][0] - time.monotonic()) if self._heap else None

    def settled(self, keys: Iterable[Key]) -> None:
        """Forget rows that have their outcome."""
        for key in keys:
            self._waits.pop(key, None)

    def clear(self) -> None:
        """Forget every row; the repair ends without them."""
        self._heap.clear()
        self._waits.clear()
