"""Repairs the rows of one table: reads them, has each batch embedded and written, settles each row.

Reads from top to bottom: rows become batches, which wait for their turn, are asked for, and are
written; what comes back is taken in by one function, and every row gets one outcome in the ledger.
Requests and writes run on threads of their own; every decision stays on one thread, which Ctrl-C
never interrupts. No transaction is open while the provider is asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from checks.awake import run_aside
from checks.database.connection import cancel
from remediation.ending import INTERRUPTED, Ending, words_of
from remediation.journal.outcome_ledger import OutcomeLedger, outcome_of
from remediation.journal.outcomes import Account, Outcome
from remediation.journal.throughput import Throughput
from remediation.provider.errors import KeyRefused, Stopped
from remediation.selection.preparation import shorter_forms
from remediation.table_repair.admission import Admission
from remediation.table_repair.answered_rows import answered_rows
from remediation.table_repair.dispatch import Dispatch
from remediation.table_repair.flight import Answered, Flight
from remediation.table_repair.source import Source
from remediation.throttling.wait_reasons import keys_must_wait
from remediation.writing.changes import NewVectors
from remediation.writing.edits import Edits
from remediation.writing.frozen_sets import Answers, set_checks
from remediation.writing.repair_lock import LockLostError
from remediation.writing.triggers import suspects
from remediation.writing.writer import Pace, Writer

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from checks.database.connection import Connection, ConnectionTarget
    from checks.settings.integrity_toml import Settings
    from remediation.journal.journal import Journal
    from remediation.journal.quarantine import Quarantine
    from remediation.provider.bisection import Isolated
    from remediation.provider.embedders import Embedders
    from remediation.provider.tokens import TokenCounter
    from remediation.selection.batching import Batch, FailingRow
    from remediation.selection.put_aside import PutAside
    from remediation.selection.row_reader import RowReader
    from remediation.table_repair.circuit_breaker import CircuitBreaker
    from remediation.table_repair.flight import Landed
    from remediation.table_repair.probing.late_probes import LateProbes
    from remediation.throttling.budget import Budget
    from remediation.throttling.throttle import Throttle
    from remediation.writing.locked_rows import LockedRows
    from remediation.writing.repair_lock import HeldLock
    from remediation.writing.table_statements import NewVector
    from remediation.writing.verdicts import LockedRow, Written

LONGEST_WAIT_SECONDS = 1.0
"""After so long at most, the table's lock is looked at."""
MOST_FAILURES = 1_000
"""Of taking in what is left in flight, more than can be there: the fault is ours, and would recur.
"""
ROUNDS = 3
"""Passes over rows that were edited while we worked; then they are left, as superseded."""


@dataclass(kw_only=True)
class Engine:
    """One table's repair. Create, `run()` once, read `account` and `stopped`."""

    reader: RowReader
    settings: Settings
    write_place: ConnectionTarget
    connection: Connection
    """For reading, by nobody else; its transactions end before the provider is asked."""
    embedders: Embedders
    counter: TokenCounter
    journal: Journal
    lock: HeldLock
    budget: Budget
    stop: threading.Event
    """Set by the repair itself when it must end: waits of its threads end at once."""
    throttle: Throttle
    """Pauses the repair: nothing is sent meanwhile, and no write begins."""
    on_outcome: Callable[[Outcome], None]
    """Called with each outcome, on the deciding thread."""
    tenants: Sequence[str] | None
    quarantine: Quarantine
    """What earlier runs remember of texts that the provider refuses."""
    breaker: CircuitBreaker
    """What the probe learnt; tenants it says nothing of ask one request at a time at first."""
    locked: LockedRows
    """Rows that other sessions hold; they are written later, and others go on."""
    late: LateProbes
    """Probes without an answer yet; their tenants go on after it."""
    aside: PutAside
    """Rows of late tenants that others are read before; what is left of them at the end is for
    another call, once no other table waits."""
    others_wait: Callable[[], bool] = lambda: False
    """Whether a table that is still to come has rows of tenants who are not late."""
    account: Account = field(default_factory=Account)
    """The outcomes so far."""

    def __post_init__(self) -> None:
        provider, writers = self.settings.provider, self.settings.repair.write_concurrency
        self._target = self.reader.target
        self._took_before = self.breaker.usage
        self._endpoints = self.breaker.endpoints
        self._ending = Ending(stop=self.stop)
        self._pace = Pace()
        self._ledger = OutcomeLedger(
            table=self._target.name,
            journal=self.journal,
            on_outcome=self.on_outcome,
            on_broken_journal=self._ending.break_off,
            account=self.account,
        )
        self._flight = Flight(
            embedders=self.embedders,
            asking=provider.concurrency,
            writers=[self._writer() for _ in range(writers)],
            shorter=lambda text: shorter_forms(text, provider, self.counter),
        )
        self._source = Source(
            reader=self.reader,
            connection=self.connection,
            tenants=self.tenants,
            settings=self.settings,
            counter=self.counter,
            quarantine=self.quarantine,
            ledger=self._ledger,
            ending=self._ending,
        )
        self._dispatch = Dispatch(
            admission=Admission(
                budget=self.budget,
                breaker=self.breaker,
                embedders=self.embedders,
                counter=self.counter,
                late=self.late,
            ),
            flight=self._flight,
            ahead=provider.concurrency,
            ledger=self._ledger,
            ending=self._ending,
            budget=self.budget,
            counter=self.counter,
            throttle=self.throttle,
            locked=self.locked,
            source=self._source,
            aside=self.aside,
            endpoints=self._endpoints,
            others_wait=self.others_wait,
        )
        self._suspects = partial(suspects, self.reader, self.connection)
        self._answers = Answers(
            checks=set_checks(self.reader.checks),
            alike=self._target.declared.check_settings("uniqueness").alike,
        )
        self._edits = Edits(
            reader=self.reader,
            connection=self.connection,
            journal=self.journal,
            tenants=self.tenants,
        )

    def _writer(self) -> Writer[NewVector]:
        return Writer(
            change=NewVectors(target=self._target, reader=self.reader),
            place=self.write_place,
            pace=self._pace,
            stop=self.stop,
            check_lock=self.lock.check,
            may_begin=lambda: self.throttle.wait(self.stop),
            before_write=lambda vectors: self.journal.replacing(self._target.name, vectors),
        )

    @property
    def stopped(self) -> str | None:
        """Why the repair ended before its last row; None where it did not."""
        return self._ending.reason

    @property
    def throughput(self) -> Throughput:
        """What its requests and its writes took so far, the probe's left out."""
        took, (rows, seconds) = self.breaker.usage - self._took_before, self._flight.wrote
        return Throughput(
            table=self._target.name,
            host=self.embedders.endpoint.host,
            model=self.embedders.endpoint.model,
            indexed=self._target.ann_indexed,
            requests=took.requests,
            request_seconds=took.seconds,
            rows=rows,
            row_seconds=seconds,
        )

    def run(self) -> None:
        """Repair until nothing is left, a cap is reached, or the repair must stop.

        Raises what is not foreseen, KeyboardInterrupt included, after the account is settled.
        """

        def interrupt() -> None:
            self.stop.set()
            cancel(self.connection)

        with self._flight:
            run_aside(self._decide, on_interrupt=interrupt)

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
            failed = 0
            while self._flight and failed < MOST_FAILURES:
                # What one batch raises must not leave the next without its outcome.
                try:
                    self._collect()
                except Exception:
                    failed += 1
            self._dispatch.let_go()
            self._ledger.settle(self._edits.give_up())
            self._ledger.skip_open(self.stopped or "")
            if self.stopped:
                self._ledger.skip_unread(self.aside.take_all(), self.stopped)
            self._ledger.finish()

    def _all_rounds(self) -> None:
        self._repair(iter(()) if self.aside.tenants else self._source.failing())
        if self.stopped and self._ending.rest_is_counted:
            self._source.skip_unread(self.stopped)
        for rounds_left in reversed(range(ROUNDS + 1)):
            if not self.stop.is_set():
                self._edits.find_after_write(self._ledger.reopen, self.stop.wait)
            if self.stopped or not self._edits or not rounds_left:
                break
            edited = self._source.batches(self._edits.rows(self._ledger.settle))
            self._repair(edited, again=True)

    def _repair(self, coming: Iterator[Batch], *, again: bool = False) -> None:
        """Send and write until each row has its outcome, or is kept as edited or put aside."""
        self._dispatch.begin(coming, again=again)
        while self._dispatch or self._flight or self.locked:
            if self._dispatch.only_late_left:
                self._leave_late()
            self._dispatch.send()
            self._collect()

    def _leave_late(self) -> None:
        """End what late tenants are asked for, and put their rows aside for another call."""
        while self._flight:
            self.embedders.close()
            self._collect()
        self._dispatch.put_aside(0)

    # What comes back

    def _collect(self) -> None:
        """Wait for something in flight, a locked row's time or a key's turn; take in what came."""
        key_in = self._dispatch.seconds_to_wait
        idle = key_in and not (self._flight or self.late.waiting or self.locked)
        self.throttle.tell(keys_must_wait(key_in) if idle else None)
        self.late.take_in()
        late = self._endpoints.late | self._flight.late | self.late.tenants
        self._endpoints.late = late - self.breaker.stopped_tenants.keys()
        for held in self.locked.take_due():
            self._flight.write([each.new for each in held], held)
        due_in = self.locked.seconds_left()
        seconds = min(
            LONGEST_WAIT_SECONDS,
            key_in or LONGEST_WAIT_SECONDS,
            LONGEST_WAIT_SECONDS if due_in is None else max(due_in, 0.01),
        )
        if not self._flight and (self._dispatch or self.locked):
            self.stop.wait(seconds)
        for came in self._flight.take_in(seconds):
            self._take_in(came)
        if self.stop.is_set():
            self._ending.end(INTERRUPTED)
            # They are settled with all others that have no outcome.
            self.locked.clear()
        if not self.stopped:
            try:
                self.lock.beat()
            except LockLostError as error:
                self._ending.break_off(str(error))

    def _take_in(self, came: Answered | Landed) -> None:
        """Settle what came back, or see to what is next. Raises what is not foreseen."""
        if isinstance(came, Answered):
            if not isinstance(came.result, BaseException):
                if came.late:
                    self._endpoints.late.add(came.batch.tenant)
                elif came.result.failure is None:
                    self._endpoints.late.discard(came.batch.tenant)
                self._take_answer(came.batch, came.result)
                return
            self.budget.settle(reserved=came.batch.tokens)
            self._fail(came.batch.rows, came.result)
            if not isinstance(came.result, KeyRefused):
                raise came.result
            self.breaker.answered(came.batch.tenant, came.result)
        elif isinstance(came.result, BaseException):
            self.locked.settled(row.key for row in came.rows)
            self._fail(came.rows, came.result, uncertain=True)
            raise came.result
        else:
            self._take_written(came.result)

    def _fail(
        self, rows: Sequence[FailingRow], error: BaseException, *, uncertain: bool = False
    ) -> None:
        failed = [outcome_of(row, Outcome.FAILED, words_of(error)) for row in rows]
        self._ledger.settle([replace(outcome, uncertain=uncertain) for outcome in failed])

    def _take_answer(self, batch: Batch, answer: Isolated) -> None:
        rows = answered_rows(
            batch,
            answer,
            target=self._target,
            provider=self.settings.provider,
            counter=self.counter,
            stopped=self._ending.end(INTERRUPTED) if isinstance(answer.failure, Stopped) else "",
        )
        self._dispatch.put_back(rows.to_ask_again)
        reserved = batch.tokens - sum(waiting.batch.tokens for waiting in rows.to_ask_again)
        self.budget.settle(reserved=reserved, took=answer.usage)
        self.breaker.answered(batch.tenant, answer.failure, answer.usage)
        for row, note in rows.notes:
            self._ledger.note(row, note)
        self._ledger.settle(rows.outcomes)
        if rows.vectors:
            self._flight.write(rows.vectors)

    def _take_written(self, written: Written[NewVector]) -> None:
        if written.stopped is not None:
            self._ending.break_off(written.stopped)
        self.locked.settled(outcome.row.key for outcome in written.outcomes)
        self._let_wait(written.held)
        outcomes = self._answers.judge(written.outcomes)
        broken = self.breaker.breaks(outcomes)
        if broken is not None and not self.stopped:
            self._ending.end(broken + self._suspects(), rest_is_counted=True)
        self.breaker.written(outcomes, self._flight.rows, suspects=self._suspects)
        again = [outcome for outcome in outcomes if outcome.try_again]
        for outcome in again:
            self._edits.keep(outcome)
        # What was written of them before they changed is for an undo to know.
        self._ledger.enter(again)
        self._ledger.settle([outcome for outcome in outcomes if not outcome.try_again])

    def _let_wait(self, held: Sequence[LockedRow[NewVector]]) -> None:
        """Write rows later that another session holds, or give them up."""
        if self.stop.is_set():
            return
        given_up, hopeless = self.locked.put(held)
        if hopeless is not None:
            self._ending.end(hopeless, rest_is_counted=True)
        self._ledger.settle(given_up)
