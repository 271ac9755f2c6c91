"""Repairs one table, round by round: reads failing rows, has them sent, takes in what comes back.

`Dispatch` decides what is sent and when, `Completion` what came of it. Requests and writes run on
threads of their own; every decision stays on one thread, which Ctrl-C never interrupts. No
transaction is open while the provider is asked.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from checks.database.connection import cancel
from remediation.interruptible import INTERRUPTED, Ending, run_aside, words_of
from remediation.journal.outcome_ledger import OutcomeLedger, outcome_of
from remediation.journal.outcomes import Account, Outcome
from remediation.journal.quarantine import Quarantine, sent_for
from remediation.selection.batching import batch_limits, batches
from remediation.selection.preparation import prepare, shorter_forms
from remediation.table_repair.completion import Completion
from remediation.table_repair.dispatch import Admission, Dispatch
from remediation.table_repair.worker_pool import WorkerPool
from remediation.writing.changes import LOCK_TIMEOUT, NewVectors
from remediation.writing.edits import Edits
from remediation.writing.frozen_sets import Answers, set_checks
from remediation.writing.locked_rows import LockedRows
from remediation.writing.repair_lock import LockLostError
from remediation.writing.writer import Writer

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from checks.database.connection import Connection, ConnectionTarget
    from checks.settings.integrity_toml import Settings
    from checks.targets.target import Target
    from remediation.journal.journal import Journal
    from remediation.provider.embedders import Embedders
    from remediation.provider.tokens import TokenCounter
    from remediation.selection.batching import FailingRow
    from remediation.selection.row_reader import RowReader
    from remediation.table_repair.circuit_breaker import CircuitBreaker
    from remediation.throttling.budget import Budget
    from remediation.throttling.throttle import Throttle
    from remediation.writing.repair_lock import RepairLock
    from remediation.writing.table_statements import NewVector

LONGEST_WAIT_SECONDS = 1.0
"""After so long at most, the table's lock is looked at."""
ROUNDS = 3
"""Passes over rows that were edited while we worked; then they are left, as superseded."""


@dataclass(kw_only=True)
class Backfill:
    """One table's repair. Create, `run()` once, read `account` and `stopped`."""

    target: Target
    reader: RowReader
    settings: Settings
    write_place: ConnectionTarget
    connection: Connection
    """For reading, by nobody else; its transactions end before the provider is asked."""
    embedders: Embedders
    counter: TokenCounter
    journal: Journal
    lock: RepairLock
    budget: Budget
    stop: threading.Event
    """Set by the repair itself when it must end: waits of its threads end at once."""
    throttle: Throttle
    """Pauses the repair: nothing is sent meanwhile, and no write begins."""
    on_outcome: Callable[[Outcome], None]
    """Called with each outcome, on the deciding thread."""
    tenants: Sequence[str] | None = None
    quarantine: Quarantine = field(default_factory=Quarantine)
    """What earlier runs remember of texts that the provider refuses."""
    breaker: CircuitBreaker
    """What the probe learnt; tenants it says nothing of ask one request at a time at first."""

    locked: LockedRows = field(default_factory=LockedRows)
    """Rows that other sessions hold; they are written later, and others go on."""

    def __post_init__(self) -> None:
        self._last_read: tuple[str, ...] | None = None
        self._ending = Ending(stop=self.stop)
        self._ledger = OutcomeLedger(
            table=self.target.name,
            journal=self.journal,
            on_outcome=self.on_outcome,
            on_broken_journal=self._ending.break_off,
        )
        self._edits = Edits(
            reader=self.reader,
            connection=self.connection,
            journal=self.journal,
            tenants=self.tenants,
        )
        self._pool = WorkerPool(
            embedders=self.embedders,
            asking=self.settings.provider.concurrency,
            writers=[self._writer() for _ in range(self.settings.repair.write_concurrency)],
            shorter=lambda text: shorter_forms(text, self.settings.provider, self.counter),
        )
        self._dispatch = Dispatch(
            pool=self._pool,
            admission=Admission(
                budget=self.budget,
                breaker=self.breaker,
                embedders=self.embedders,
                counter=self.counter,
            ),
            budget=self.budget,
            counter=self.counter,
            throttle=self.throttle,
            locked=self.locked,
            ledger=self._ledger,
            ending=self._ending,
        )
        self._completion = Completion(
            target=self.target,
            provider=self.settings.provider,
            counter=self.counter,
            pool=self._pool,
            dispatch=self._dispatch,
            locked=self.locked,
            edits=self._edits,
            answers=Answers(checks=set_checks(self.reader.checks)),
            breaker=self.breaker,
            budget=self.budget,
            ledger=self._ledger,
            ending=self._ending,
        )

    def _writer(self) -> Writer[NewVector]:
        return Writer(
            change=NewVectors(target=self.target, reader=self.reader),
            place=self.write_place,
            stop=self.stop,
            check_lock=self.lock.check,
            may_begin=lambda: self.throttle.wait(self.stop),
            before_write=lambda vectors: self.journal.replacing(self.target.name, vectors),
        )

    @property
    def account(self) -> Account:
        """The outcomes so far."""
        return self._ledger.account

    @property
    def stopped(self) -> str | None:
        """Why the repair ended before its last row; None where it did not."""
        return self._ending.reason

    def run(self) -> None:
        """Repair until nothing is left, a cap is reached, or the repair must stop.

        Raises what is not foreseen, KeyboardInterrupt included, after the account is settled.
        """
        with self._pool:
            run_aside(self._decide, on_interrupt=self._interrupt)

    def _interrupt(self) -> None:
        self.stop.set()
        cancel(self.connection)

    def _decide(self) -> None:
        """The whole repair, then an outcome for every row that has none yet."""
        try:
            self._all_rounds()
        except BaseException as error:
            self._ending.break_off(
                INTERRUPTED if self.stop.is_set() else f"the repair broke off: {words_of(error)}"
            )
            raise
        finally:
            while self._pool:
                # What one batch raises must not leave the next without its outcome.
                with suppress(Exception):
                    self._collect()
            self._dispatch.give_up()
            self._ledger.settle(self._edits.give_up())
            self._ledger.skip_open(self.stopped or "")
            self._ledger.finish()

    def _all_rounds(self) -> None:
        failing = self.reader.failing_rows(self.connection, tenants=self.tenants)
        self._round(failing, selected=True)
        for _ in range(ROUNDS):
            self._find_edited_after_write()
            if self.stopped or not self._edits:
                break
            self._round(self._edits.rows(self._ledger.settle), selected=False)
        else:
            self._find_edited_after_write()

    def _find_edited_after_write(self) -> None:
        if not self.stop.is_set():
            self._edits.find_after_write(self._ledger.reopen)

    def _round(self, rows: Iterable[FailingRow], *, selected: bool) -> None:
        limits = batch_limits(self.settings)
        for batch in batches(self._prepared(rows, selected), limits=limits, counter=self.counter):
            self._dispatch.send_deferred()
            while not self._dispatch.take(batch):
                self._collect()
                self._dispatch.send_deferred()
        self._drain()
        if selected and self.stopped and self._ending.rest_is_counted:
            # Nobody waits long for a count, least of all at a table that another session holds.
            unread = replace(self.reader, lock_timeout=LOCK_TIMEOUT).failing_rows(
                self.connection, tenants=self.tenants, after=self._last_read, bare=True
            )
            with suppress(psycopg.errors.LockNotAvailable):
                self._ledger.skip_unread(unread, self.stopped)

    def _prepared(self, rows: Iterable[FailingRow], selected: bool) -> Iterator[FailingRow]:
        """The rows that can be sent; the others get their outcome at once."""
        for row in rows:
            if self.stop.is_set():
                # Rows that are not sent keep nobody waiting who would notice.
                self._ending.end(INTERRUPTED)
            if self.stopped:
                return
            if selected:
                self._last_read = row.key
                self._ledger.select(row)
            prepared = prepare(row, self.settings.provider, self.counter)
            refusal = prepared.refused or self._refused_before(prepared.row)
            if refusal is None:
                self._ledger.note(row, prepared.note)
                yield prepared.row
            else:
                self._ledger.settle([outcome_of(row, Outcome.QUARANTINED, refusal)])

    def _refused_before(self, row: FailingRow) -> str | None:
        """Why a prepared row is not sent although it could be: an earlier run did, in vain."""
        sent = partial(sent_for, row, self.target, self.settings.provider, self.counter)
        return self.quarantine.reason(self.target.name, row.key, sent)

    def _drain(self) -> None:
        while self._pool or self._dispatch or self.locked:
            self._collect()
            self._dispatch.send_deferred()

    def _collect(self) -> None:
        """Wait for something in flight, a locked row's time or a key's turn; take in what came."""
        self.throttle.tell(self._dispatch.hold())
        for due in self.locked.take_due():
            self._pool.write(due.batch, [held.new for held in due.held], due.held)
        pauses = [LONGEST_WAIT_SECONDS, *self._dispatch.pauses()]
        due_in = self.locked.seconds_left()
        if due_in is not None:
            pauses.append(max(due_in, 0.01))
        seconds = min(pauses)
        if not self._pool:
            self.stop.wait(seconds)
        for finished in self._pool.take_finished(seconds=seconds):
            self._completion.take_in(finished)
        if self.stop.is_set():
            self._ending.end(INTERRUPTED)
            # They are settled with all others that have no outcome.
            self.locked.clear()
        if not self.stopped:
            try:
                self.lock.beat()
            except LockLostError as error:
                self._ending.break_off(str(error))
