"""Rolls back one table: reads what the run wrote and what is there now, and puts back.

Overwrites only what the run left; reports and leaves rows that anyone changed since.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import psycopg

from checks.awake import run_aside
from checks.database.connection import cancel, connect, read_only
from checks.errors import CannotExamineError
from remediation.ending import INTERRUPTED, words_of
from remediation.journal.journal import journal_words
from remediation.journal.outcome_ledger import OutcomeLedger, outcome_of
from remediation.journal.outcomes import Account, Outcome, RowOutcome
from remediation.rollback.history import PutBack, before_of, state_of
from remediation.rollback.put_back import PutBacks, put_back, read_stored
from remediation.rollback.undo_statements import compile_dragged
from remediation.table_repair.result import TableRepair
from remediation.writing.locked_rows import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    PATIENCE_SECONDS,
)
from remediation.writing.repair_lock import RepairLock, TableLockedError
from remediation.writing.verdicts import unread_outcome
from remediation.writing.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from checks.database.connection import Connection, ConnectionTarget
    from checks.targets.target import Target
    from remediation.journal.journal import Journal
    from remediation.rollback.history import Before, History, WrittenState
    from remediation.rollback.put_back import StoredRow
    from remediation.selection.batching import Key
    from remediation.writing.verdicts import LockedRow

PAGE_ROWS = 200
"""Rows whose vectors, old and new, are in memory at once: of 16,000 dimensions 26 MB."""

ALREADY = "it is as it was before the run already"
CHANGED = "it no longer holds what the run wrote"
GONE = "its row is gone"
LOCKED = f"locked by another session for {PATIENCE_SECONDS:,.0f} s"

Step: TypeAlias = "PutBack | RowOutcome"
"""What is to be done with a row, or what there is to say of one with which nothing is."""


@dataclass(kw_only=True)
class TableUndo:
    """One table's rollback. Create, `foresee()` or `run()` once, read `result`."""

    target: Target
    history: History
    place: ConnectionTarget
    timeout: timedelta
    tenants: tuple[str, ...] | None
    """Only rows that were of these tenants when the run wrote to them."""

    _account: Account = field(default_factory=Account)
    _stopped: str | None = None
    _seconds: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def result(self) -> TableRepair:
        """The result so far."""
        return TableRepair(
            table=self.target.name,
            account=self._account,
            stopped=self._stopped,
            seconds=self._seconds,
        )

    def foresee(self, connection: Connection) -> None:
        """Enter what a rollback would do in the account. Raises psycopg's errors and OSError."""
        for steps in self._pages(connection):
            for step in steps:
                self._account.selected += 1
                if isinstance(step, PutBack):
                    self._account.add(step.row, Outcome.RESTORED, "")
                else:
                    self._account.add(step.row, step.outcome, step.reason)

    def run(self, journal: Journal, run_id: str, on_outcome: Callable[[Outcome], None]) -> None:
        """Put back. The result says what the database, the journal or a running repair refused.

        Raises unexpected errors, and KeyboardInterrupt.
        """
        begun = time.monotonic()
        try:
            with (
                connect(self.place) as connection,
                RepairLock(self.place, self.target, run_id=run_id) as lock,
            ):
                # A repair that held the lock until now has recorded all it did.
                self.history.read_on()
                ledger = OutcomeLedger(
                    table=self.target.name,
                    journal=journal,
                    on_outcome=on_outcome,
                    on_broken_journal=self._end,
                    account=self._account,
                )
                writer = Writer(
                    change=PutBacks(target=self.target, place=self.place, timeout=self.timeout),
                    place=self.place,
                    stop=self._stop,
                    check_lock=lock.check,
                    before_write=lambda puts: journal.replacing(self.target.name, puts),
                )

                def interrupt() -> None:
                    self._stop.set()
                    cancel(connection)

                try:
                    journal.begin_table(self.target)
                    run_aside(
                        lambda: self._put_back(connection, ledger, writer),
                        on_interrupt=interrupt,
                    )
                finally:
                    writer.close()
                    ledger.finish()
        except (TableLockedError, CannotExamineError) as error:
            self._stopped = str(error)
        except psycopg.Error as error:
            self._stopped = INTERRUPTED if self._stop.is_set() else words_of(error)
        except OSError as error:
            self._stopped = journal_words(error)
        finally:
            self._seconds = time.monotonic() - begun

    def _put_back(
        self, connection: Connection, ledger: OutcomeLedger, writer: Writer[PutBack]
    ) -> None:
        for steps in self._pages(connection):
            for step in steps:
                ledger.select(step.row)
            ledger.settle([step for step in steps if isinstance(step, RowOutcome)])
            puts = [step for step in steps if isinstance(step, PutBack)]
            if self._stopped is None:
                ledger.settle(self._write(writer, puts))
            else:
                # Read on all the same, so that the report says what is left to put back.
                ledger.skip([put.row for put in puts], self._stopped)
            if self._stop.is_set():
                self._stopped = INTERRUPTED
                return

    def _end(self, reason: str) -> None:
        """Stop putting back. The first reason counts."""
        self._stopped = self._stopped or reason

    def _write(self, writer: Writer[PutBack], puts: Sequence[PutBack]) -> list[RowOutcome]:
        """Write, and retry rows that other sessions lock for as long as a repair would."""
        outcomes: list[RowOutcome] = []
        held: tuple[LockedRow[PutBack], ...] = ()
        end = time.monotonic() + PATIENCE_SECONDS
        pause = FIRST_PAUSE_SECONDS
        while puts:
            written = writer.write(puts, held)
            outcomes += written.outcomes
            held = written.held
            puts = [each.new for each in held]
            if written.stopped is not None:
                self._stopped = written.stopped
            elif held and time.monotonic() < end:
                if not self._stop.wait(pause):
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                    continue
                self._stopped = INTERRUPTED
            elif any(each.whole for each in held):
                self._stopped = f"the table stayed {LOCKED}"
            reason = self._stopped or LOCKED
            return outcomes + [
                unread_outcome(each.new.row, Outcome.SKIPPED, reason, each.attempt) for each in held
            ]
        return outcomes

    def _pages(self, connection: Connection) -> Iterator[list[Step]]:
        rows = self.history.tables[self.target.name].items()
        undeletable = self._undeletable(connection)
        while page := list(islice(rows, PAGE_ROWS)):
            befores = self._befores(page)
            # By the tenant of its first write, so that a row that moved since is selected once.
            ours = [
                (key, links)
                for key, links in page
                if self.tenants is None or befores[links[0].origin].tenant in self.tenants
            ]
            if not ours:
                continue
            with self._transaction(connection):
                held = read_stored(connection, self.target, [key for key, _ in ours])
            steps = [
                _step(key, links, now, befores)
                for (key, links), now in zip(ours, held, strict=True)
            ]
            yield [
                outcome_of(step.row, Outcome.FAILED, undeletable)
                if undeletable is not None and isinstance(step, PutBack) and step.deletes
                else step
                for step in steps
            ]

    def _undeletable(self, connection: Connection) -> str | None:
        """Why no row may be deleted, or None: a rollback must undo only what the run did."""
        if self.target.store is None:
            return None
        with self._transaction(connection):
            found = connection.execute(compile_dragged(self.target.store)).fetchall()
        if not found:
            return None
        names = ", ".join(name for (name,) in found)
        return f"not deleted: a foreign key of {names} would delete or change its rows as well"

    def _transaction(self, connection: Connection) -> AbstractContextManager[Connection]:
        return read_only(
            connection,
            self.place,
            statement_timeout=self.timeout,
            row_security=self.target.row_security,
        )

    def _befores(self, page: Sequence[tuple[Key, tuple[WrittenState, ...]]]) -> dict[int, Before]:
        """What was there before, by its offset in the journal."""
        places = sorted({link.origin for _, links in page for link in links})
        events = self.history.journal.events_at(places)
        return {place: before_of(event) for place, event in zip(places, events, strict=True)}


def _step(
    key: Key, links: tuple[WrittenState, ...], now: StoredRow, befores: dict[int, Before]
) -> PutBack | RowOutcome:
    state = state_of(now.vector_hash, absent=now.absent)
    ours = next((link for link in links if link.state == state), None)
    put = put_back(key, now, befores[(ours or links[0]).origin])
    if now.is_back(put.before):
        return outcome_of(put.row, Outcome.SKIPPED, ALREADY)
    if ours is not None:
        return put
    return outcome_of(put.row, Outcome.SUPERSEDED, GONE if now.absent else CHANGED)
