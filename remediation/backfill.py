"""Repairs one table: reads failing rows, asks the provider, writes under guard, settles each row.

Requests and writes run on threads of their own; every decision stays on one thread, which Ctrl-C
never interrupts. No transaction is open while the provider is asked.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import psycopg

from checks.connection import reason_of
from checks.errors import IntegrityError
from remediation.admission import Admission
from remediation.aside import run_aside
from remediation.batching import BatchLimits, batches
from remediation.changes import NewVectors
from remediation.edits import Edits
from remediation.flight import Flight
from remediation.freezing import Answers, set_checks
from remediation.journal import journal_words
from remediation.lock import LockLostError
from remediation.outcomes import Account, Outcome
from remediation.preparation import Prepared, prepare
from remediation.provider_errors import InputRejected, KeyRefused, Stopped
from remediation.quarantine import Quarantine, refused
from remediation.settlement import Settlement, outcome_of
from remediation.writer import Writer, Written
from remediation.writes import NewVector

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from checks.connection import Connection, ConnectionTarget
    from checks.settings import Settings
    from checks.targets import Target
    from remediation.batching import Batch, FailingRow
    from remediation.budget import Budget
    from remediation.embedders import Embedders
    from remediation.flight import Landed
    from remediation.journal import Journal
    from remediation.lessons import Lessons
    from remediation.lock import RepairLock
    from remediation.outcomes import RowOutcome
    from remediation.poison import Isolated
    from remediation.selection import RowReader
    from remediation.tokens import TokenCounter

ROUNDS = 3
"""Passes over rows that were edited while we worked; then they are left, as superseded."""
INTERRUPTED = "the repair was interrupted"


@dataclass(kw_only=True, slots=True)
class Spending:
    """What a table's repair took."""

    requests: int = 0
    tokens: int = 0
    tokens_known: bool = True


@dataclass(kw_only=True)
class Backfill:
    """One table's repair. Create, `run()` once, read `account`, `spending` and `stopped`."""

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
    on_outcome: Callable[[Outcome], None]
    """Called with each outcome, on the deciding thread."""
    tenants: Sequence[str] | None = None
    quarantine: Quarantine = field(default_factory=Quarantine)
    """What earlier runs remember of texts that the provider refuses."""
    lessons: Lessons
    """What the probe learnt; tenants it says nothing of ask one request at a time at first."""

    spending: Spending = field(default_factory=Spending)
    stopped: str | None = None
    """Why the repair ended before its last row; None where it did not."""

    def __post_init__(self) -> None:
        self._last_read: tuple[str, ...] | None = None
        self._settlement = Settlement(
            table=self.target.name, journal=self.journal, on_outcome=self.on_outcome
        )
        self._admission = Admission(
            budget=self.budget,
            lessons=self.lessons,
            keys=self.embedders.keys,
            counter=self.counter,
        )
        self._answers = Answers(checks=set_checks(self.reader.checks))
        self._edits = Edits(
            reader=self.reader,
            connection=self.connection,
            journal=self.journal,
            tenants=self.tenants,
        )

    @property
    def account(self) -> Account:
        """The outcomes so far."""
        return self._settlement.account

    def run(self) -> None:
        """Repair until nothing is left, a cap is reached, or the repair must stop.

        Raises what is not foreseen, KeyboardInterrupt included, after the account is settled.
        """
        repair = self.settings.repair
        self._flight = Flight(
            embedders=self.embedders,
            asking=self.settings.provider.concurrency,
            writers=[self._writer() for _ in range(repair.write_concurrency)],
        )
        with self._flight:
            run_aside(self._decide, on_interrupt=self._interrupt)

    def _interrupt(self) -> None:
        self.stop.set()
        self.connection.cancel_safe()

    def _decide(self) -> None:
        """The whole repair, then an outcome for every row that has none yet."""
        try:
            self._all_rounds()
        except BaseException as error:
            self._end(
                INTERRUPTED if self.stop.is_set() else f"the repair broke off: {words(error)}"
            )
            self.stop.set()
            raise
        finally:
            while self._flight:
                # What one batch raises must not leave the next without its outcome.
                with suppress(Exception):
                    self._collect()
            with suppress(OSError):
                self._settlement.settle(self._edits.give_up())
            with suppress(OSError):
                self._settlement.skip_open(self.stopped or "")

    def _all_rounds(self) -> None:
        failing = self.reader.failing_rows(self.connection, tenants=self.tenants)
        self._round(failing, selected=True)
        for _ in range(ROUNDS):
            self._find_edited_after_write()
            if self.stopped or not self._edits:
                break
            self._round(self._edits.rows(self._settle), selected=False)
        else:
            self._find_edited_after_write()

    def _find_edited_after_write(self) -> None:
        if not self.stop.is_set():
            self._edits.find_after_write(self._settlement.reopen)

    def _round(self, rows: Iterable[FailingRow], *, selected: bool) -> None:
        limits = BatchLimits(
            rows=self.settings.provider.batch_size,
            tokens_per_request=self.settings.provider.max_tokens_per_request,
        )
        for batch in batches(self._prepared(rows, selected), limits=limits, counter=self.counter):
            self._admit(batch)
        self._drain()
        if selected and self.stopped in (self.budget.no_rows_left, self.budget.no_money_left):
            unread = self.reader.failing_rows(
                self.connection, tenants=self.tenants, after=self._last_read, bare=True
            )
            self._settlement.skip_unread(unread, self.stopped)

    def _prepared(self, rows: Iterable[FailingRow], selected: bool) -> Iterator[FailingRow]:
        """The rows that can be sent; the others get their outcome at once."""
        for row in rows:
            if self.stopped:
                return
            if selected:
                self._last_read = row.key
                self._settlement.select(row)
            prepared: Prepared = prepare(row, self.settings.provider, self.counter)
            refusal = prepared.refused or self.quarantine.reason(
                self.target.name, self.target.model, prepared.row
            )
            if refusal is None:
                self._settlement.note(row, prepared.note)
                yield prepared.row
            else:
                self._settle([outcome_of(row, Outcome.QUARANTINED, refusal)])

    def _admit(self, batch: Batch) -> None:
        """Send a batch, or give its rows their outcome where nothing may be sent for them."""
        while self._admission.must_wait(batch, self._flight):
            self._collect()
        batch, settled = self._admission.worth_asking(batch)
        self._settle(settled)
        if self.stopped:
            self._skip(batch.rows)
            return
        sent, cap = self._admission.within_caps(batch)
        if sent.rows:
            self.budget.reserve(rows=len(sent.rows), tokens=sent.tokens)
            self._flight.ask(sent)
        if cap is not None:
            self._end(cap)
            self._skip(batch.rows[len(sent.rows) :])

    def _drain(self) -> None:
        while self._flight:
            self._collect()

    def _collect(self) -> None:
        """Wait for something in flight and take in what has come."""
        for landed in self._flight.land(seconds=1.0):
            if isinstance(landed.result, BaseException):
                self._failed(landed, landed.result)
            elif isinstance(landed.result, Written):
                self._written(landed.result)
            else:
                self._answered(landed.batch, landed.result)
        if self.stop.is_set():
            self._end(INTERRUPTED)
        if not self.stopped:
            try:
                self.lock.beat()
            except LockLostError as error:
                self._break_off(str(error))

    def _failed(self, landed: Landed, error: BaseException) -> None:
        """Settle a batch that raised; only a tenant without a key is foreseen."""
        batch = landed.batch
        if not landed.writing:
            self.budget.settle(reserved=batch.tokens, billed=0)
        failed = [outcome_of(row, Outcome.FAILED, words(error)) for row in batch.rows]
        self._settle([replace(outcome, uncertain=landed.writing) for outcome in failed])
        if not isinstance(error, KeyRefused):
            raise error
        self.lessons.answered(batch.tenant, error)

    def _answered(self, batch: Batch, answer: Isolated) -> None:
        self.spending.requests += answer.requests
        self.spending.tokens += answer.tokens
        self.spending.tokens_known &= answer.tokens_known
        # What an answer did not say is billed as it was counted before.
        billed = answer.tokens if answer.tokens_known else max(answer.tokens, batch.tokens)
        self.budget.settle(reserved=batch.tokens, billed=billed)
        self.lessons.answered(batch.tenant, answer.failure)
        vectors = []
        for row, outcome in zip(batch.rows, answer.outcomes, strict=True):
            if isinstance(outcome, InputRejected):
                quarantined = outcome_of(row, Outcome.QUARANTINED, outcome.reason)
                # By what was sent of it, a later run knows that it need not ask again.
                sent = refused(self.target.model, row.text)
                self._settle([replace(quarantined, refused=sent)])
            elif outcome is not None:
                vectors.append(NewVector(row=row, vector=outcome))
            elif isinstance(answer.failure, Stopped):
                self._end(INTERRUPTED)
                self._skip([row])
            elif answer.failure is not None:
                self._settle([outcome_of(row, Outcome.FAILED, answer.failure.reason)])
        if vectors:
            kept = self._admission.part(batch, [new.row for new in vectors])
            self._flight.write(kept, vectors)

    def _writer(self) -> Writer[NewVector]:
        return Writer(
            change=NewVectors(target=self.target, reader=self.reader),
            place=self.write_place,
            stop=self.stop,
            check_lock=self.lock.check,
            before_write=lambda vectors: self.journal.replacing(self.target.name, vectors),
        )

    def _written(self, written: Written) -> None:
        if written.stopped is not None:
            self._break_off(written.stopped)
        outcomes = self._answers.judge(written.outcomes)
        self.lessons.written(outcomes)
        again = [outcome for outcome in outcomes if outcome.try_again]
        for outcome in again:
            self._edits.keep(outcome)
        # What was written of them before they changed is for an undo to know.
        self._enter(again)
        self._settle([outcome for outcome in outcomes if not outcome.try_again])

    def _enter(self, outcomes: Sequence[RowOutcome]) -> None:
        try:
            self.journal.outcomes(self.target.name, outcomes)
        except OSError as error:
            self._break_off(journal_words(error))

    def _settle(self, outcomes: Sequence[RowOutcome]) -> None:
        try:
            self._settlement.settle(outcomes)
        except OSError as error:
            self._break_off(journal_words(error))

    def _skip(self, rows: Sequence[FailingRow]) -> None:
        self._settle([outcome_of(row, Outcome.SKIPPED, self.stopped or "") for row in rows])

    def _end(self, reason: str) -> None:
        """Send no more; what is in flight is finished. The first reason counts."""
        self.stopped = self.stopped or reason

    def _break_off(self, reason: str) -> None:
        """Send no more, and wait no longer for what could not be written anyway."""
        self._end(reason)
        self.stop.set()


def words(error: BaseException) -> str:
    """What stopped a batch, in words that hold nothing of its rows."""
    if isinstance(error, psycopg.Error):
        return f"the database refused: {reason_of(error)}"
    return str(error) if isinstance(error, IntegrityError) else f"unexpected {type(error).__name__}"
