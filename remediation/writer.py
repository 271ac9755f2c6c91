"""Guarded writes: repeat what was read, write, then read back and say what came of it.

The only module that changes a user's table; overwrites nothing that changed since it was read.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import psycopg
from pgvector.psycopg.vector import register_vector_info
from psycopg import sql
from psycopg.types import TypeInfo

from checks.connection import connect, reason_of, set_local
from checks.errors import CannotExamineError
from remediation.freezing import set_checks
from remediation.journal import journal_words
from remediation.lock import LockLostError
from remediation.outcomes import Outcome, RowOutcome
from remediation.statements import write_rows
from remediation.verdicts import Attempt, judge_write, still_locked
from remediation.writes import compile_stored, new_values

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

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
"""Tries of one write before its rows are given up."""
PAUSE_SECONDS = 0.1
"""Before the second try; doubles from try to try: 1.5 s in all, about what a restart takes."""

Key: TypeAlias = tuple[str, ...]


@dataclass(kw_only=True, slots=True)
class Pace:
    """Rows per write transaction: starts small, grows gently, halves as soon as one times out."""

    rows: float = FIRST_ROWS

    def faster(self) -> None:
        self.rows = min(self.rows * GROWTH, MOST_ROWS)

    def slower(self) -> None:
        self.rows = max(1.0, self.rows / 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What became of each row, in order; `stopped` says why no more may be written at all."""

    outcomes: tuple[RowOutcome, ...]
    stopped: str | None = None


@dataclass(kw_only=True, slots=True)
class _Tries:
    """What is known of a chunk over its tries."""

    attempt: Attempt = field(default_factory=Attempt)
    settled: dict[Key, RowOutcome] = field(default_factory=dict)
    outcome: Outcome = Outcome.FAILED
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
    """Called once ahead of each write; keeps what is about to be replaced. Raises OSError."""
    _connection: Connection | None = None
    _pace: Pace = field(default_factory=Pace)

    def write(self, vectors: Sequence[NewVector]) -> Written:
        """Write in short transactions. Raises nothing that is foreseen."""
        outcomes: list[RowOutcome] = []
        waiting = list(vectors)
        while waiting:
            chunk = waiting[: max(1, int(self._pace.rows))]
            try:
                self.check_lock()
                self.before_write(chunk)
            except (LockLostError, OSError) as error:
                stopped = _words(error)
                outcomes += [_outcome(new, Outcome.FAILED, stopped) for new in waiting]
                return Written(outcomes=tuple(outcomes), stopped=stopped)
            settled = self._settle(chunk, Attempt())
            outcomes += [settled[new.row.key] for new in chunk]
            waiting = waiting[len(chunk) :]
        return Written(outcomes=tuple(outcomes))

    def close(self) -> None:
        """Close the connection; the writer opens a new one when it is used again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _settle(self, chunk: Sequence[NewVector], known: Attempt) -> dict[Key, RowOutcome]:
        """Write one chunk, trying again on locks and lost connections, and read it back.

        A COMMIT whose answer was lost may have succeeded: what was read before guards the next
        try, and the read-back decides.
        """
        left = list(chunk)
        tries = _Tries(attempt=known)
        for number in range(ATTEMPTS):
            if number and self.stop.wait(PAUSE_SECONDS * 2 ** (number - 1)):
                break
            try:
                self.check_lock()
                self._write_once(left, tries)
            except LockLostError as error:
                tries.outcome, tries.trouble = Outcome.FAILED, str(error)
                break
            except psycopg.errors.QueryCanceled as error:
                self._pace.slower()
                if len(left) > 1:
                    return tries.settled | self._halves(left, tries.attempt)
                tries.outcome, tries.trouble = Outcome.FAILED, _refusal(error)
            except (
                psycopg.errors.LockNotAvailable,
                psycopg.errors.DeadlockDetected,
                psycopg.errors.SerializationFailure,
            ) as error:
                self._pace.slower()
                if len(left) > 1 and any(new.row.missing for new in left):
                    # An INSERT waits for another one of its key, which cannot be skipped.
                    return tries.settled | self._halves(left, tries.attempt)
                tries.outcome = Outcome.SKIPPED
                tries.trouble = f"locked by another session: {reason_of(error)}"
            except (psycopg.OperationalError, psycopg.InterfaceError, CannotExamineError) as error:
                reason = str(error) if isinstance(error, CannotExamineError) else reason_of(error)
                tries.outcome = Outcome.FAILED
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
            new.row.key: _outcome(new, tries.outcome, tries.trouble) for new in left
        }

    def _refused(self, new: NewVector, error: psycopg.Error) -> RowOutcome:
        """What a refusal comes to; a foreign key refuses rightly where the row itself is gone."""
        if isinstance(error, psycopg.errors.ForeignKeyViolation):
            with suppress(psycopg.Error, CannotExamineError):
                (now,) = self.reader.read_back(self._open(), [new.row.key])
                if now is None:
                    return judge_write(new.row, now, Attempt())
        return _outcome(new, Outcome.FAILED, _refusal(error), healed=False)

    def _halves(self, chunk: Sequence[NewVector], known: Attempt) -> dict[Key, RowOutcome]:
        middle = len(chunk) // 2
        return self._settle(chunk[:middle], known) | self._settle(chunk[middle:], known)

    def _write_once(self, chunk: Sequence[NewVector], tries: _Tries) -> None:
        """One try: settles every row but those that another session holds locked."""
        attempt = tries.attempt
        if attempt.uncertain:
            # What a COMMIT wrote whose answer was lost needs no other one, whose answer may be too.
            attempt.stored |= self._recognised(chunk, attempt)
        unwritten = [new for new in chunk if new.row.key not in attempt.stored]
        if unwritten:
            self._update(unwritten, attempt)
        self._pace.faster()
        connection = self._open()
        current = self.reader.read_back(connection, [new.row.key for new in chunk])
        if attempt.uncertain:
            # Again: it may have come to its end only now.
            attempt.stored |= self._recognised(chunk, attempt)
        for new, now in zip(chunk, current, strict=True):
            if still_locked(new.row, now, attempt):
                tries.outcome = Outcome.SKIPPED
                tries.trouble = "locked by another session for as long as we tried"
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
            self._connection = connect(self.place)
            schema = self.target.server.vector_schema
            if schema is not None:
                # By its schema: the extension's may not be on the search path.
                name = sql.Identifier(schema, "vector")
                register_vector_info(self._connection, TypeInfo.fetch(self._connection, name))
        return self._connection


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
