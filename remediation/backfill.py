"""Repairs one table: reads failing rows, asks the provider, writes under guard, settles each row.

Requests and writes run on threads of their own; every decision stays on one thread, which Ctrl-C
never interrupts. No transaction is open while the provider is asked.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import psycopg

from checks.connection import cancel, reason_of
from checks.errors import IntegrityError
from remediation.admission import Admission
from remediation.aside import run_aside
from remediation.batching import batch_limits, batches
from remediation.changes import LOCK_TIMEOUT, NewVectors
from remediation.edits import Edits
from remediation.flight import Flight
from remediation.freezing import Answers, set_checks
from remediation.journal import journal_words
from remediation.lock import LockLostError
from remediation.locked_rows import LockedRows
from remediation.outcomes import Account, Outcome
from remediation.parked import Parked, Waiting
from remediation.preparation import Prepared, prepare, shorter_forms
from remediation.provider_errors import InputRejected, KeyRefused, NotYet, Stopped
from remediation.provider_retry import Tries
from remediation.quarantine import Quarantine, sent_for
from remediation.settlement import Settlement, outcome_of
from remediation.verdicts import unread_outcome
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
    from remediation.outcomes import Refused, RowOutcome
    from remediation.poison import Isolated
    from remediation.selection import RowReader
    from remediation.throttle import Throttle
    from remediation.tokens import TokenCounter
    from remediation.writer import Held

LONGEST_WAIT_SECONDS = 1.0
"""After so long at most, the table's lock is looked at."""
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
    throttle: Throttle
    """Pauses the repair: nothing is sent meanwhile, and no write begins."""
    on_outcome: Callable[[Outcome], None]
    """Called with each outcome, on the deciding thread."""
    tenants: Sequence[str] | None = None
    quarantine: Quarantine = field(default_factory=Quarantine)
    """What earlier runs remember of texts that the provider refuses."""
    lessons: Lessons
    """What the probe learnt; tenants it says nothing of ask one request at a time at first."""

    locked: LockedRows = field(default_factory=LockedRows)
    """Rows that other sessions hold; they are written later, and others go on."""
    spending: Spending = field(default_factory=Spending)
    stopped: str | None = None
    """Why the repair ended before its last row; None where it did not."""

    def __post_init__(self) -> None:
        self._last_read: tuple[str, ...] | None = None
        self._rest_is_counted = False
        self._settlement = Settlement(
            table=self.target.name, journal=self.journal, on_outcome=self.on_outcome
        )
        self._admission = Admission(
            budget=self.budget,
            lessons=self.lessons,
            embedders=self.embedders,
            counter=self.counter,
        )
        self._parked = Parked()
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
            shorter=lambda text: shorter_forms(text, self.settings.provider, self.counter),
        )
        with self._flight:
            run_aside(self._decide, on_interrupt=self._interrupt)

    def _interrupt(self) -> None:
        self.stop.set()
        cancel(self.connection)

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
            # Another table may need what is reserved for batches that are never sent.
            while (waiting := self._parked.take(lambda _: True)) is not None:
                if waiting.reserved:
                    self.budget.settle(reserved=waiting.batch.tokens, billed=0)
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
        limits = batch_limits(self.settings)
        for batch in batches(self._prepared(rows, selected), limits=limits, counter=self.counter):
            self._admit(batch)
        self._drain()
        if selected and self.stopped and self._rest_is_counted:
            # Nobody waits long for a count, least of all at a table that another session holds.
            unread = replace(self.reader, lock_timeout=LOCK_TIMEOUT).failing_rows(
                self.connection, tenants=self.tenants, after=self._last_read, bare=True
            )
            with suppress(psycopg.errors.LockNotAvailable):
                self._settlement.skip_unread(unread, self.stopped)

    def _prepared(self, rows: Iterable[FailingRow], selected: bool) -> Iterator[FailingRow]:
        """The rows that can be sent; the others get their outcome at once."""
        for row in rows:
            if self.stop.is_set():
                # Rows that are not sent keep nobody waiting who would notice.
                self._end(INTERRUPTED)
            if self.stopped:
                return
            if selected:
                self._last_read = row.key
                self._settlement.select(row)
            prepared: Prepared = prepare(row, self.settings.provider, self.counter)
            refusal = prepared.refused or self.quarantine.reason(
                self.target.name, row.key, self._sent(prepared.row)
            )
            if refusal is None:
                self._settlement.note(row, prepared.note)
                yield prepared.row
            else:
                self._settle([outcome_of(row, Outcome.QUARANTINED, refusal)])

    def _admit(self, batch: Batch) -> None:
        """Send a batch, put it aside, or give its rows their outcome where nothing may be sent."""
        waiting = Waiting(batch=batch)
        self._send_parked()
        while (behind := self._parked.holds(batch.tenant)) or not self._may_go(waiting):
            aside = behind or self._admission.key_must_wait(batch, self._flight)
            if aside and not self._parked.full:
                self._parked.put(waiting)
                return
            self._collect()
            self._send_parked()
        self._send(waiting)

    def _send_parked(self) -> None:
        while (waiting := self._parked.take(self._may_go)) is not None:
            self._send(waiting)

    def _may_go(self, waiting: Waiting) -> bool:
        """Whether a batch is to be sent now, or to be given up."""
        # What was let through before a cap was reached is finished, as what is in flight is.
        if self.stop.is_set() or (self.stopped and not waiting.reserved):
            return True
        return not (
            self.throttle.hold() is not None
            or self.locked.hold_up_asking
            or self._admission.must_wait(waiting, self._flight)
            or self._admission.key_must_wait(waiting.batch, self._flight)
        )

    def _send(self, waiting: Waiting) -> None:
        """Send a batch, or as much of it as is worth asking for and the caps allow."""
        batch, settled = self._admission.worth_asking(waiting.batch)
        self._settle(settled)
        if waiting.reserved:
            self._send_again(waiting, batch)
            return
        if self.stopped:
            self._skip(batch.rows)
            return
        sent, cap = self._admission.within_caps(batch)
        if sent.rows:
            self.budget.reserve(rows=len(sent.rows), tokens=sent.tokens)
            self._flight.ask(sent, waiting.tries)
        if cap is not None:
            self._end(cap, rest_is_counted=True)
            self._skip(batch.rows[len(sent.rows) :])

    def _send_again(self, waiting: Waiting, batch: Batch) -> None:
        """Send what is left of a batch that came back, whose tokens are reserved."""
        if self.stop.is_set():
            self._end(INTERRUPTED)
            self._skip(batch.rows)
            batch = self._admission.part(batch, ())
        self.budget.settle(reserved=waiting.batch.tokens - batch.tokens, billed=0)
        if batch.rows:
            self._flight.ask(batch, waiting.tries)

    def _drain(self) -> None:
        while self._flight or self._parked or self.locked:
            self._collect()
            self._send_parked()

    def _collect(self) -> None:
        """Wait for something in flight, a locked row's time or a key's turn; take in what came."""
        self.throttle.tell()
        for due in self.locked.take_due():
            self._flight.write(due.batch, [held.new for held in due.held], due.held)
        pauses = [
            self._admission.key_must_wait(batch, self._flight) for batch in self._parked.batches
        ]
        due_in = self.locked.seconds_left()
        pauses += [] if due_in is None else [max(due_in, 0.01)]
        seconds = min([LONGEST_WAIT_SECONDS, *(pause for pause in pauses if pause > 0.0)])
        if not self._flight:
            self.stop.wait(seconds)
        for landed in self._flight.land(seconds=seconds):
            if isinstance(landed.result, BaseException):
                self._failed(landed, landed.result)
            elif isinstance(landed.result, Written):
                self._written(landed.batch, landed.result)
            else:
                self._answered(landed.batch, landed.result)
        if self.stop.is_set():
            self._end(INTERRUPTED)
            # They are settled with all others that have no outcome.
            self.locked.clear()
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
        self.locked.settled(row.key for row in batch.rows)
        failed = [outcome_of(row, Outcome.FAILED, words(error)) for row in batch.rows]
        self._settle([replace(outcome, uncertain=landed.writing) for outcome in failed])
        if not isinstance(error, KeyRefused):
            raise error
        self.lessons.answered(batch.tenant, error)

    def _answered(self, batch: Batch, answer: Isolated) -> None:
        self.spending.requests += answer.requests
        self.spending.tokens += answer.tokens
        self.spending.tokens_known &= not answer.unsaid
        left = self._put_aside(batch, answer)
        # What an answer did not say is billed as it was counted before.
        self.budget.settle(reserved=batch.tokens - left, billed=answer.tokens + answer.unsaid)
        self.lessons.answered(
            batch.tenant, answer.failure, tries=answer.requests, unanswered=answer.unanswered
        )
        vectors = []
        for position, (row, outcome) in enumerate(zip(batch.rows, answer.outcomes, strict=True)):
            if isinstance(outcome, InputRejected):
                quarantined = outcome_of(row, Outcome.QUARANTINED, outcome.reason)
                # By what was sent of it, a later run knows that it need not ask again; what was
                # not sent, as too much for the limits of the settings, it may ask for.
                sent = self._sent(row) if outcome.requests else None
                self._settle([replace(quarantined, refused=sent)])
            elif outcome is not None:
                if position in answer.cut:
                    self._settlement.note(row, answer.cut[position])
                vectors.append(NewVector(row=row, vector=outcome))
            elif isinstance(answer.failure, Stopped):
                self._end(INTERRUPTED)
                self._skip([row])
            elif answer.failure is not None and not isinstance(answer.failure, NotYet):
                self._settle([outcome_of(row, Outcome.FAILED, answer.failure.reason)])
        if vectors:
            kept = self._admission.part(batch, [new.row for new in vectors])
            self._flight.write(kept, vectors)

    def _sent(self, row: FailingRow) -> Refused:
        return sent_for(row, self.target, self.settings.provider, self.counter)

    def _put_aside(self, batch: Batch, answer: Isolated) -> int:
        """Keep what is to be asked for again, each group as a batch; its tokens stay reserved."""
        tokens = 0
        tries = answer.failure.tries if isinstance(answer.failure, NotYet) else Tries()
        for group in answer.left:
            part = self._admission.part(batch, [batch.rows[position] for position in group])
            self._parked.put(Waiting(batch=part, tries=tries, reserved=True))
            tokens, tries = tokens + part.tokens, Tries()
        return tokens

    def _writer(self) -> Writer[NewVector]:
        return Writer(
            change=NewVectors(target=self.target, reader=self.reader),
            place=self.write_place,
            stop=self.stop,
            check_lock=self.lock.check,
            may_begin=lambda: self.throttle.wait(self.stop),
            before_write=lambda vectors: self.journal.replacing(self.target.name, vectors),
        )

    def _written(self, batch: Batch, written: Written[NewVector]) -> None:
        if written.stopped is not None:
            self._break_off(written.stopped)
        self.locked.settled(outcome.row.key for outcome in written.outcomes)
        self._let_wait(batch, written.held)
        outcomes = self._answers.judge(written.outcomes)
        self.lessons.written(outcomes)
        again = [outcome for outcome in outcomes if outcome.try_again]
        for outcome in again:
            self._edits.keep(outcome)
        # What was written of them before they changed is for an undo to know.
        self._enter(again)
        self._settle([outcome for outcome in outcomes if not outcome.try_again])

    def _let_wait(self, batch: Batch, held: Sequence[Held[NewVector]]) -> None:
        """Write rows later that another session holds, or give them up."""
        if not held or self.stop.is_set():
            return
        given_up = self.locked.put(self._admission.part(batch, [h.new.row for h in held]), held)
        if not given_up:
            return
        hopeless = self.locked.hopeless(given_up)
        if hopeless is not None:
            self._end(hopeless, rest_is_counted=True)
        self.locked.settled(each.new.row.key for each in given_up)
        reason = self.locked.reason
        self._settle(
            [
                unread_outcome(each.new.row, Outcome.SKIPPED, reason, each.attempt)
                for each in given_up
            ]
        )

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

    def _end(self, reason: str, *, rest_is_counted: bool = False) -> None:
        """Send no more; what is in flight is finished. The first reason counts."""
        if self.stopped is None:
            self.stopped, self._rest_is_counted = reason, rest_is_counted

    def _break_off(self, reason: str) -> None:
        """Send no more, and wait no longer for what could not be written anyway."""
        self._end(reason)
        self.stop.set()


def words(error: BaseException) -> str:
    """What stopped a batch, in words that hold nothing of its rows."""
    if isinstance(error, psycopg.Error):
        return f"the database refused: {reason_of(error)}"
    return str(error) if isinstance(error, IntegrityError) else f"unexpected {type(error).__name__}"
