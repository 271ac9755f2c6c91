"""Guarded writes: repeat what was read, write, then read back and say what came of it.

The only module that changes a user's table; overwrites nothing that changed since it was read.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import psycopg
from pgvector.psycopg.vector import register_vector_info
from psycopg import sql
from psycopg.types import TypeInfo

from checks.connection import RECONNECT_TIMEOUT_SECONDS, connect, reason_of, set_local
from checks.errors import CannotExamineError
from remediation.freezing import set_checks
from remediation.journal import journal_words
from remediation.lock import LockLostError
from remediation.outcomes import Outcome, RowOutcome
from remediation.statements import write_rows
from remediation.verdicts import Attempt, joined, judge_write, still_locked
from remediation.writes import compile_stored, new_values

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from checks.connection import Connection, ConnectionTarget
    from checks.targets import Target
    from remediation.selection import RowReader
    from remediation.writes import NewVector

LOCK_TIMEOUT = timedelta(milliseconds=500)
STATEMENT_TIMEOUT = timedelta(seconds=5)
FIRST_ROWS = 10
"""Rows of the first write transaction; under an HNSW index each may cost 35 ms."""
GROWTH = 1.2
MOST_ROWS = 500
ATTEMPTS = 5
"""Tries of one write over lost connections before its rows are given up."""
PAUSE_SECONDS = 0.1
"""Before the second try; doubles from try to try: 1.5 s in all, about what a restart takes."""

Key: TypeAlias = tuple[str, ...]


def _always() -> bool:
    return True


@dataclass(kw_only=True, slots=True)
class Pace:
    """Rows per write transaction: starts small, grows gently, halves as soon as one times out."""

    rows: float = FIRST_ROWS

    def faster(self) -> None:
        self.rows = min(self.rows * GROWTH, MOST_ROWS)

    def slower(self) -> None:
        self.rows = max(1.0, self.rows / 2)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Held:
    """A row that another session holds, or that was not tried yet; its vector is in hand."""

    new: NewVector
    attempt: Attempt
    """What our writes of it did so far."""
    whole: bool = False
    """Whether the other session holds the table, as far as this try could see."""
    kept: bool = True
    """Whether what is to be replaced is kept already."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What became of each row, in order; `stopped` says why no more may be written at all."""

    outcomes: tuple[RowOutcome, ...]
    held: tuple[Held, ...] = ()
    """Rows without an outcome, to be written later; those that were not tried come first."""
    stopped: str | None = None


@dataclass(kw_only=True, slots=True)
class _Tries:
    """What is known of a chunk over its tries."""

    attempt: Attempt = field(default_factory=Attempt)
    settled: dict[Key, RowOutcome | Held] = field(default_factory=dict)
    trouble: str = ""


@dataclass(kw_only=True, slots=True)
class Writer:
    """Writes vectors of one target over one connection of its own; used by one thread at a time."""

    target: Target
    reader: RowReader
    place: ConnectionTarget
    stop: threading.Event
    check_lock: Callable[[], None]
    """Called ahead of each try. Raises `LockLostError` where nothing may be written any more."""
    before_write: Callable[[Sequence[NewVector]], None]
    """Called once for each row ahead of its write; keeps what is replaced. Raises OSError."""
    may_begin: Callable[[], bool] = _always
    """Called ahead of each try, and may wait; False where the repair ends instead."""
    _connection: Connection | None = None
    _pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        # What was committed is read back without a long wait too; `stop` must not be kept waiting.
        self.reader = replace(self.reader, lock_timeout=LOCK_TIMEOUT)

    def write(self, vectors: Sequence[NewVector], earlier: Sequence[Held] = ()) -> Written:
        """Write in short transactions; waits for no lock beyond `LOCK_TIMEOUT`.

        `earlier` is what was left of rows among them before. Raises nothing that is foreseen.
        """
        known = {held.new.row.key: held for held in earlier}
        outcomes: list[RowOutcome] = []
        held: list[Held] = []
        waiting = list(vectors)
        while waiting:
            chunk = waiting[: max(1, int(self._pace.rows))]
            try:
                self.check_lock()
                self.before_write([new for new in chunk if not _is_kept(new, known)])
            except (LockLostError, OSError) as error:
                stopped = _words(error)
                outcomes += [_outcome(new, Outcome.FAILED, stopped) for new in waiting]
                return Written(outcomes=tuple(outcomes), held=tuple(held), stopped=stopped)
            before = [known[new.row.key].attempt for new in chunk if new.row.key in known]
            settled = self._settle(chunk, joined(before))
            waiting = waiting[len(chunk) :]
            results = [settled[new.row.key] for new in chunk]
            outcomes += [result for result in results if isinstance(result, RowOutcome)]
            held += [result for result in results if isinstance(result, Held)]
            if all(isinstance(result, Held) for result in results):
                # What holds a whole chunk may hold the rest: each try of it would cost a wait.
                whole = any(result.whole for result in results if isinstance(result, Held))
                rest = [_untried(new, known, whole=whole) for new in waiting]
                return Written(outcomes=tuple(outcomes), held=(*rest, *held))
        return Written(outcomes=tuple(outcomes), held=tuple(held))

    def close(self) -> None:
        """Close the connection; the writer opens a new one when it is used again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _settle(self, chunk: Sequence[NewVector], known: Attempt) -> dict[Key, RowOutcome | Held]:
        """Write one chunk, trying again on lost connections, and read it back.

        A COMMIT whose answer was lost may have succeeded: what was read before guards the next
        try, and the read-back decides. What another session holds is handed back at once.
        """
        left = list(chunk)
        tries = _Tries(attempt=known)
        for number in range(ATTEMPTS):
            if number and self.stop.wait(PAUSE_SECONDS * 2 ** (number - 1)):
                break
            if not self.may_begin():
                return tries.settled | _held(left, tries.attempt)
            try:
                self.check_lock()
                self._write_once(left, tries)
            except LockLostError as error:
                tries.trouble = str(error)
                break
            except psycopg.errors.QueryCanceled as error:
                self._pace.slower()
                if len(left) > 1:
                    return tries.settled | self._halves(left, tries.attempt)
                tries.trouble = _refusal(error)
            except (
                psycopg.errors.LockNotAvailable,
                psycopg.errors.DeadlockDetected,
                psycopg.errors.SerializationFailure,
            ) as error:
                self._pace.slower()
                whole = _is_of_table(error)
                if len(left) > 1 and not whole:
                    # An INSERT waits for another one of its key, a trigger for what it touches:
                    # neither can be skipped, and one row's must not hold up its neighbours.
                    return tries.settled | self._halves(left, tries.attempt)
                return tries.settled | _held(left, tries.attempt, whole=whole)
            except (psycopg.OperationalError, psycopg.InterfaceError, CannotExamineError) as error:
                reason = str(error) if isinstance(error, CannotExamineError) else reason_of(error)
                tries.trouble = f"the connection to the database was lost: {reason}"
                tries.attempt.uncertain = True
                self.close()
            except psycopg.Error as error:
                # One refused row must not hold up its neighbours.
                if len(left) > 1:
                    return tries.settled | self._halves(left, tries.attempt)
                return tries.settled | {left[0].row.key: self._refused(left[0], error)}
            left = [new for new in left if new.row.key not in tries.settled]
            if not left:
                break
        return tries.settled | {
            new.row.key: _outcome(new, Outcome.FAILED, tries.trouble) for new in left
        }

    def _refused(self, new: NewVector, error: psycopg.Error) -> RowOutcome:
        """What a refusal comes to; a foreign key refuses rightly where the row itself is gone."""
        if isinstance(error, psycopg.errors.ForeignKeyViolation):
            with suppress(psycopg.Error, CannotExamineError):
                (now,) = self.reader.read_back(self._open(), [new.row.key])
                if now is None:
                    return judge_write(new.row, now, Attempt())
        return _outcome(new, Outcome.FAILED, _refusal(error), healed=False)

    def _halves(self, chunk: Sequence[NewVector], known: Attempt) -> dict[Key, RowOutcome | Held]:
        middle = len(chunk) // 2
        return self._settle(chunk[:middle], known) | self._settle(chunk[middle:], known)

    def _write_once(self, chunk: Sequence[NewVector], tries: _Tries) -> None:
        """One try: settles every row; those that another session holds locked are handed back."""
        attempt = tries.attempt
        self._update(chunk, attempt)
        if len(chunk) >= int(self._pace.rows):
            # A few rows that are written again say nothing of many.
            self._pace.faster()
        connection = self._open()
        current = self.reader.read_back(connection, [new.row.key for new in chunk])
        if attempt.uncertain:
            attempt.stored |= self._recognised(chunk, attempt)
        for new, now in zip(chunk, current, strict=True):
            if still_locked(new.row, now, attempt):
                tries.settled |= _held([new], attempt)
            else:
                tries.settled[new.row.key] = judge_write(
                    new.row, now, attempt, about_sets=set_checks(self.reader.checks)
                )

    def _update(self, chunk: Sequence[NewVector], attempt: Attempt) -> None:
        connection = self._open()
        with connection.transaction():
            set_local(
                connection,
                self.place,
                statement_timeout=STATEMENT_TIMEOUT,
                lock_timeout=LOCK_TIMEOUT,
                row_security=self.target.row_security,
            )
            ours, stored = write_rows(connection, self.target, chunk)
        # After the COMMIT: what was rolled back was not written.
        attempt.locked.update(new.row.key for new in ours)
        attempt.stored |= stored

    def _recognised(self, chunk: Sequence[NewVector], attempt: Attempt) -> dict[Key, str | None]:
        """Writes whose COMMIT went unanswered, known by what their vectors would be stored as."""
        unknown = [new for new in chunk if new.row.key not in attempt.stored]
        if not unknown:
            return {}
        connection = self._open()
        rows = connection.execute(
            compile_stored(self.target), {"new": new_values(self.target, unknown)}
        ).fetchall()
        expected = {unknown[position - 1].row.key: stored for position, stored in rows}
        current = self.reader.read_back(connection, list(expected))
        return {
            key: stored
            for (key, stored), now in zip(expected.items(), current, strict=True)
            if now is not None and now.vector_hash == stored
        }

    def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self.place, timeout_seconds=RECONNECT_TIMEOUT_SECONDS)
            schema = self.target.server.vector_schema
            if schema is not None:
                # By its schema: the extension's may not be on the search path.
                name = sql.Identifier(schema, "vector")
                register_vector_info(self._connection, TypeInfo.fetch(self._connection, name))
        return self._connection


def _held(
    rows: Sequence[NewVector], attempt: Attempt, *, whole: bool = False
) -> dict[Key, RowOutcome | Held]:
    return {new.row.key: Held(new=new, attempt=attempt, whole=whole) for new in rows}


def _untried(new: NewVector, known: Mapping[Key, Held], *, whole: bool) -> Held:
    before = known.get(new.row.key)
    if before is None:
        return Held(new=new, attempt=Attempt(), whole=whole, kept=False)
    return replace(before, whole=whole)


def _is_kept(new: NewVector, known: Mapping[Key, Held]) -> bool:
    before = known.get(new.row.key)
    return before is not None and before.kept


def _is_of_table(error: psycopg.Error) -> bool:
    """Whether a lock on a table was refused: one on a row comes with the server's word of which."""
    return isinstance(error, psycopg.errors.LockNotAvailable) and not error.diag.context


def _outcome(new: NewVector, outcome: Outcome, reason: str, *, healed: bool = True) -> RowOutcome:
    return RowOutcome(
        row=new.row,
        outcome=outcome,
        reason=reason,
        unhealed=() if healed else new.row.checks,
    )


def _refusal(error: psycopg.Error) -> str:
    return f"the database refused the write: {reason_of(error)}"


def _words(error: LockLostError | OSError) -> str:
    return journal_words(error) if isinstance(error, OSError) else str(error)
