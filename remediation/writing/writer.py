"""Writes under guard: repeats what was read, writes, reads back, and says what came of it.

The only module that changes a user's table; overwrites nothing that changed since it was read.
What is written is for a `Change` to say: new vectors, or those that stood there before.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Generic

import psycopg

from checks.database.connection import (
    RECONNECT_TIMEOUT_SECONDS,
    SILENCE_SECONDS,
    connect,
    reason_of,
    short_transaction,
)
from checks.database.open_sockets import within
from checks.errors import CannotExamineError
from remediation.journal.journal import Changed, journal_words
from remediation.journal.outcomes import Outcome, RowOutcome
from remediation.selection.batching import FIRST_ROWS
from remediation.writing.changes import LOCK_TIMEOUT
from remediation.writing.repair_lock import LockLostError
from remediation.writing.verdicts import (
    Attempt,
    LockedRow,
    Written,
    held_now,
    is_kept,
    joined,
    unread_outcome,
    untried,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from checks.database.connection import Connection, ConnectionTarget
    from remediation.journal.journal import RowChange
    from remediation.selection.batching import Key
    from remediation.writing.changes import Change


GROWTH = 1.2
FAST_GROWTH = 5
"""Of a transaction that took under `FAST_SECONDS`."""
FAST_SECONDS = 0.04
SLOW_SECONDS = 0.2
"""From here on a transaction grows no more: an application may wait for its rows."""
MOST_ROWS = 500


@dataclass(kw_only=True, slots=True)
class Pace:
    """Rows per write transaction: starts small, grows by what the last one took, halves as soon as
    one times out.
    """

    rows: float = FIRST_ROWS
    """Under an HNSW index each may cost 35 ms."""
    fast: bool = False
    """Whether so many took under `FAST_SECONDS`."""

    def took(self, seconds: float) -> None:
        """Learn from a transaction that was as large as it might be."""
        if seconds > 2 * SLOW_SECONDS:
            self.rows = max(1.0, self.rows * 2 * SLOW_SECONDS / seconds)
        elif seconds < SLOW_SECONDS:
            growth = FAST_GROWTH if seconds < FAST_SECONDS else GROWTH
            self.rows = min(self.rows * growth, MOST_ROWS)
        self.fast = seconds < FAST_SECONDS

    def slower(self) -> None:
        self.rows, self.fast = max(1.0, self.rows / 2), False


STATEMENT_TIMEOUT = timedelta(seconds=5)
IDLE_TIMEOUT = timedelta(seconds=10)
"""Until the server rolls a write back whose client has vanished, and lets go of its rows."""
ATTEMPTS = 5
"""Tries of one write over lost connections before its rows are given up."""
PAUSE_SECONDS = 0.1
"""Before the second try; doubles from try to try: 1.5 s in all, about what a restart takes."""


def _always() -> bool:
    return True


@dataclass(kw_only=True, slots=True)
class _Tries(Generic[Changed]):
    """What is known of a chunk over its tries."""

    attempt: Attempt = field(default_factory=Attempt)
    settled: dict[Key, RowOutcome | LockedRow[Changed]] = field(default_factory=dict)
    trouble: str = ""


@dataclass(kw_only=True, slots=True)
class Writer(Generic[Changed]):
    """Writes to one target over one connection of its own; used by one thread at a time."""

    change: Change[Changed]
    place: ConnectionTarget
    stop: threading.Event
    check_lock: Callable[[], None]
    """Called ahead of each try. Raises `LockLostError` where nothing may be written any more."""
    before_write: Callable[[Sequence[Changed]], None]
    """Called once for each row ahead of its write; keeps what is replaced. Raises OSError."""
    may_begin: Callable[[], bool] = _always
    """Called ahead of each try, and may wait; False where the repair ends instead."""
    pace: Pace = field(default_factory=Pace)
    """Of its table: what one writer learns of it holds for all."""
    rows: int = field(default=0, init=False)
    """Rows that were written and read back so far."""
    seconds: float = field(default=0.0, init=False)
    """What their transactions took, pauses and locks that were refused left out."""
    _connection: Connection | None = None
    _stopped: str | None = None
    """Why nothing may be written any more."""

    @property
    def rows_at_once(self) -> int:
        """Rows of the next transaction."""
        return max(1, int(self.pace.rows))

    @property
    def least_rows(self) -> int:
        """Of which nothing is left to another writer, who would take longer to begin."""
        return self.rows_at_once if self.pace.fast else max(self.rows_at_once // 10, FIRST_ROWS)

    def write(
        self, changes: Sequence[Changed], earlier: Sequence[LockedRow[Changed]] = ()
    ) -> Written[Changed]:
        """Write in short transactions; waits for no lock beyond `LOCK_TIMEOUT`.

        `earlier` is what was left of rows among them before. Raises nothing that is foreseen.
        """
        known = {held.new.row.key: held for held in earlier}
        outcomes: list[RowOutcome] = []
        held: list[LockedRow[Changed]] = []
        waiting = list(changes)
        while waiting:
            chunk = waiting[: self.rows_at_once]
            before = [known[new.row.key].attempt for new in chunk if new.row.key in known]
            settled: dict[Key, RowOutcome | LockedRow[Changed]] = {}
            try:
                settled = self._settle(self._kept(chunk, known), joined(before))
                waiting = waiting[len(chunk) :]
            except OSError as error:
                self._stopped = journal_words(error)
            results = [settled[new.row.key] for new in chunk if new.row.key in settled]
            outcomes += [result for result in results if isinstance(result, RowOutcome)]
            held += [result for result in results if isinstance(result, LockedRow)]
            if self._stopped is not None:
                stopped = self._stopped
                outcomes += [_failed(new, stopped, _attempt_of(new, known)) for new in waiting]
                return Written(outcomes=tuple(outcomes), held=tuple(held), stopped=stopped)
            if all(isinstance(result, LockedRow) for result in results):
                # What holds a whole chunk may hold the rest: each try of it would cost a wait.
                whole = any(result.whole for result in results if isinstance(result, LockedRow))
                rest = [untried(new, known, whole=whole) for new in waiting]
                return Written(outcomes=tuple(outcomes), held=(*rest, *held))
        return Written(outcomes=tuple(outcomes), held=tuple(held))

    def _kept(
        self, chunk: Sequence[Changed], known: Mapping[Key, LockedRow[Changed]]
    ) -> list[Changed]:
        """The chunk, what it replaces being kept. Raises OSError."""
        kept = [known[new.row.key].new for new in chunk if is_kept(new, known)]
        fresh = self.change.foresee([new for new in chunk if not is_kept(new, known)])
        if fresh:
            self.before_write(fresh)
        return [*kept, *fresh]

    def close(self) -> None:
        """Close the connection; the writer opens a new one when it is used again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _tries(self) -> Iterator[int]:
        """Numbers of tries, with a pause before each but the first; ends early on a stop."""
        for number in range(ATTEMPTS):
            if number and self.stop.wait(PAUSE_SECONDS * 2 ** (number - 1)):
                return
            yield number

    def _settle(
        self, chunk: Sequence[Changed], known: Attempt
    ) -> dict[Key, RowOutcome | LockedRow[Changed]]:
        """Write one chunk, trying again on lost connections, and read it back.

        A COMMIT whose answer was lost may have succeeded: what was read before guards the next
        try, and the read-back decides. What another session holds is handed back at once.
        """
        left = list(chunk)
        tries = _Tries[Changed](attempt=known)
        for _ in self._tries():
            if not self.may_begin():
                return tries.settled | held_now(left, tries.attempt)
            try:
                self.check_lock()
                self._write_once(left, tries)
            except LockLostError as error:
                self._stopped = tries.trouble = str(error)
                break
            except psycopg.errors.QueryCanceled as error:
                self.pace.slower()
                if len(left) > 1:
                    return tries.settled | self._halves(left, tries.attempt)
                tries.trouble = _refusal(error)
            except (
                psycopg.errors.LockNotAvailable,
                psycopg.errors.DeadlockDetected,
                psycopg.errors.SerializationFailure,
            ) as error:
                whole = _is_of_table(error)
                if not whole:
                    self.pace.slower()
                    if len(left) > 1:
                        # An INSERT waits for another one of its key, a trigger for what it touches:
                        # neither can be skipped, and one row's must not hold up its neighbours.
                        return tries.settled | self._halves(left, tries.attempt)
                return tries.settled | held_now(left, tries.attempt, whole=whole)
            except (psycopg.OperationalError, psycopg.InterfaceError, CannotExamineError) as error:
                tries.trouble = _lost(error)
                tries.attempt.uncertain = True
                self.close()
            except psycopg.Error as error:
                # One refused row must not hold up its neighbours.
                if len(left) > 1:
                    return tries.settled | self._halves(left, tries.attempt)
                refused = self._refused(left[0], error, tries.attempt)
                return tries.settled | {left[0].row.key: refused}
            left = [new for new in left if new.row.key not in tries.settled]
            if not left:
                break
        return tries.settled | {
            new.row.key: _failed(new, tries.trouble, tries.attempt) for new in left
        }

    def _refused(self, new: Changed, error: psycopg.Error, attempt: Attempt) -> RowOutcome:
        """What a refusal comes to; a foreign key refuses rightly where the row itself is gone."""
        if isinstance(error, psycopg.errors.ForeignKeyViolation):
            with suppress(psycopg.Error, CannotExamineError):
                gone = self.change.gone(self.connect(), new)
                if gone is not None:
                    return gone
        return _failed(new, _refusal(error), attempt, healed=False)

    def _halves(
        self, chunk: Sequence[Changed], known: Attempt
    ) -> dict[Key, RowOutcome | LockedRow[Changed]]:
        middle = len(chunk) // 2
        return self._settle(chunk[:middle], known) | self._settle(chunk[middle:], known)

    def _write_once(self, chunk: Sequence[Changed], tries: _Tries[Changed]) -> None:
        """One try: settles every row; those that another session holds locked are handed back."""
        attempt, begun = tries.attempt, time.monotonic()
        if attempt.uncertain:
            # What a COMMIT wrote whose answer was lost needs no other one, whose answer may be too.
            self.change.recognise(self.connect(), chunk, attempt)
        unwritten = [new for new in chunk if new.row.key not in attempt.stored]
        if unwritten:
            self._update(unwritten, attempt)
        if attempt.uncertain:
            # Again: it may have come to its end only now.
            self.change.recognise(self.connect(), chunk, attempt)
        judged = self.change.judge(self.connect(), chunk, attempt)
        for new, outcome in zip(chunk, judged, strict=True):
            if outcome is None:
                tries.settled |= held_now([new], attempt)
            else:
                tries.settled[new.row.key] = outcome
        self.rows += len(chunk)
        self.seconds += time.monotonic() - begun

    def _update(self, chunk: Sequence[Changed], attempt: Attempt) -> None:
        connection = self.connect()
        begun = time.monotonic()
        with (
            within(connection, SILENCE_SECONDS),
            short_transaction(
                connection,
                self.place,
                statement_timeout=STATEMENT_TIMEOUT,
                lock_timeout=LOCK_TIMEOUT,
                idle_timeout=IDLE_TIMEOUT,
                row_security=self.change.target.row_security,
            ),
        ):
            ours, stored = self.change.write(connection, chunk)
        if len(chunk) >= int(self.pace.rows):
            # A few rows that are written again say nothing of many.
            self.pace.took(time.monotonic() - begun)
        # After the COMMIT: what was rolled back was not written.
        attempt.locked.update(new.row.key for new in ours)
        attempt.stored |= stored

    def connect(self) -> Connection:
        """The connection, opened where there is none. Raises as `connect` and `Change.adapt` do."""
        if self._connection is None or self._connection.closed:
            self._connection = connect(self.place, timeout_seconds=RECONNECT_TIMEOUT_SECONDS)
            with within(self._connection, SILENCE_SECONDS):
                self.change.adapt(self._connection)
        return self._connection


def _is_of_table(error: psycopg.Error) -> bool:
    """Whether a lock on a table was refused: one on a row comes with the server's word of which."""
    return isinstance(error, psycopg.errors.LockNotAvailable) and not error.diag.context


def _attempt_of(new: Changed, known: Mapping[Key, LockedRow[Changed]]) -> Attempt:
    before = known.get(new.row.key)
    return Attempt() if before is None else before.attempt


def _failed(new: RowChange, reason: str, attempt: Attempt, *, healed: bool = True) -> RowOutcome:
    return unread_outcome(
        new.row,
        Outcome.FAILED,
        reason,
        attempt,
        unhealed=() if healed else new.row.checks,
    )


def _lost(error: psycopg.Error | CannotExamineError) -> str:
    reason = str(error) if isinstance(error, CannotExamineError) else reason_of(error)
    return f"the connection to the database was lost: {reason}"


def _refusal(error: psycopg.Error) -> str:
    return f"the database refused the write: {reason_of(error)}"
