"""Repairs one table: reads failing rows, asks the provider, writes under guard, accounts for each row.

Requests and writes run on threads of their own; every decision and the account stay on the caller's.
No transaction is open while the provider is asked.
"""

from __future__ import annotations

import queue
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from checks.errors import IntegrityError
from remediation.batching import Batch, BatchLimits, batches
from remediation.keys import MissingKey
from remediation.lock import LockLostError
from remediation.outcomes import Account, Outcome, RowOutcome
from remediation.poison import Isolated, embed_isolating
from remediation.preparation import Prepared, prepare
from remediation.provider_errors import (
    InputRejected,
    KeyRefused,
    ModelUnavailable,
    ProviderUnavailable,
    Stopped,
)
from remediation.writer import NewVector, Writer

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from checks.connection import Connection, ConnectionTarget
    from checks.settings import Settings
    from checks.targets import Target
    from remediation.batching import FailingRow
    from remediation.budget import Budget
    from remediation.embedders import Embedders
    from remediation.journal import Journal
    from remediation.lock import RepairLock
    from remediation.probe import ProbeResult
    from remediation.selection import RowReader
    from remediation.tokens import TokenCounter

ROUNDS = 3
"""Passes over rows that were edited while we worked; then they are left, as superseded."""
KEYS_AT_ONCE = 500
UNHEALED_BATCHES = 3
"""Batches in a row that read back as still failing before a proven check is given up."""
OUTAGES = 3
"""Requests in a row that a tenant's provider leaves unanswered, retries included."""
INTERRUPTED = "the repair was interrupted"


@dataclass(kw_only=True, slots=True)
class Spending:
    """What a table's repair took."""

    requests: int = 0
    tokens: int = 0
    tokens_known: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """A batch that the provider is being asked for."""

    batch: Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class _Written:
    """Vectors of a batch that are being written."""

    batch: Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class _Edited:
    """A row to look at again: how it was, why, and the md5 of the vector we wrote, if any."""

    row: FailingRow
    reason: str
    written: str | None


@dataclass(kw_only=True)
class Backfill:
    """One table's repair. Create, `run()` once, read `account`, `spending` and `stopped`."""

    target: Target
    reader: RowReader
    settings: Settings
    write_place: ConnectionTarget
    connection: Connection
    """For reading; its transactions are short and end before the provider is asked."""
    embedders: Embedders
    counter: TokenCounter
    journal: Journal
    lock: RepairLock
    budget: Budget
    stop: threading.Event
    on_outcome: Callable[[Outcome], None]
    tenants: Sequence[str] | None = None

    account: Account = field(default_factory=Account)
    spending: Spending = field(default_factory=Spending)
    stopped: str | None = None
    """Why the repair ended before its last row; None where it did not."""
    stopped_checks: dict[str, str] = field(default_factory=dict)
    stopped_tenants: dict[str | None, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._in_flight: dict[Future[object], _Asked | _Written] = {}
        self._edited: dict[tuple[str, ...], _Edited] = {}
        self._healed: set[str] = set()
        self._unhealed: dict[str, int] = {}
        self._outages: dict[str | None, int] = {}
        self._trusted: set[str | None] = set()
        self._writers: queue.SimpleQueue[Writer] = queue.SimpleQueue()
        self._notes: dict[tuple[str, ...], str] = {}

    def trust_probed(self, probes: Iterable[ProbeResult]) -> None:
        """Take over what the probe learnt: whose key works, and whose is dead.

        Other tenants ask one request at a time until one has succeeded.
        """
        for result in probes:
            if result.failure is None:
                self._trusted.add(result.tenant)
            elif isinstance(result.failure, (KeyRefused, ModelUnavailable)):
                self.stopped_tenants.setdefault(result.tenant, result.failure.reason)

    def run(self) -> None:
        """Repair until nothing is left, a cap is reached, or the repair must stop.

        Raises what is not foreseen, KeyboardInterrupt included, after the account is settled.
        """
        provider, repair = self.settings.provider, self.settings.repair
        writers = [self._writer() for _ in range(repair.write_concurrency)]
        for writer in writers:
            self._writers.put(writer)
        try:
            with (
                ThreadPoolExecutor(provider.concurrency, thread_name_prefix="ask") as self._askers,
                ThreadPoolExecutor(len(writers), thread_name_prefix="write") as self._write_pool,
            ):
                try:
                    self._all_rounds()
                except BaseException:
                    self.stopped = self.stopped or INTERRUPTED
                    self.stop.set()
                    self._drain()
                    raise
        finally:
            self._give_up_edited()
            for writer in writers:
                writer.close()

    def _writer(self) -> Writer:
        return Writer(
            target=self.target,
            reader=self.reader,
            place=self.write_place,
            stop=self.stop,
            before_write=self._before_write,
        )

    def _before_write(self, vectors: Sequence[NewVector]) -> None:
        self.lock.check()
        self.journal.replacing(self.target.name, vectors)

    def _all_rounds(self) -> None:
        failing = self.reader.failing_rows(self.connection, tenants=self.tenants)
        self._round(failing, selected=True)
        for _ in range(ROUNDS):
            if self.stopped:
                return
            self._find_edited_after_write()
            if not self._edited:
                return
            self._round(self._edited_rows(), selected=False)

    def _round(self, rows: Iterable[FailingRow], *, selected: bool) -> None:
        limits = BatchLimits(
            rows=self.settings.provider.batch_size,
            tokens_per_request=self.settings.provider.max_tokens_per_request,
        )
        for batch in batches(self._prepared(rows, selected), limits=limits, counter=self.counter):
            if self.stopped:
                break
            if selected:
                self.account.selected += len(batch.rows)
            self._admit(batch)
        self._drain()

    def _prepared(self, rows: Iterable[FailingRow], selected: bool) -> Iterator[FailingRow]:
        """The rows that can be sent; the others get their outcome at once."""
        for row in rows:
            if self.stopped:
                return
            prepared: Prepared = prepare(row, self.settings.provider, self.counter)
            if prepared.refused is None:
                if prepared.note:
                    self._notes[row.key] = prepared.note
                yield prepared.row
                continue
            self.account.selected += selected
            self._finish([_outcome(row, Outcome.QUARANTINED, prepared.refused)])

    def _admit(self, batch: Batch) -> None:
        """Send a batch, or give its rows their outcome where nothing may be sent for them."""
        batch = self._without_stopped_checks(batch)
        if not batch.rows or self._refused_tenant(batch):
            return
        batch = self._within_caps(batch)
        if not batch.rows:
            return
        self._wait_for_proof(batch)
        batch = self._without_stopped_checks(batch)
        if self.stopped or not batch.rows or self._refused_tenant(batch):
            self._skip(batch.rows, self.stopped or "")
            return
        self._wait_for_room()
        self.budget.reserve(rows=len(batch.rows), tokens=batch.tokens)
        future: Future[object] = self._askers.submit(self._ask, batch)
        self._in_flight[future] = _Asked(batch=batch)

    def _ask(self, batch: Batch) -> Isolated:
        with self.embedders.lend(batch.tenant) as embedder:
            return embed_isolating(embedder, [row.text for row in batch.rows])

    def _without_stopped_checks(self, batch: Batch) -> Batch:
        """The rows that fail at least one check whose repair heals."""
        if not self.stopped_checks:
            return batch
        hopeless = [row for row in batch.rows if self.stopped_checks.keys() >= set(row.checks)]
        for row in hopeless:
            self._finish([_outcome(row, Outcome.SKIPPED, self.stopped_checks[row.checks[0]])])
        return self._only(batch, [row for row in batch.rows if row not in hopeless])

    def _refused_tenant(self, batch: Batch) -> bool:
        """Whether the tenant has no key or its key is dead; its rows are then failed."""
        reason = self.stopped_tenants.get(batch.tenant)
        if reason is None:
            key = self.embedders.keys.find(batch.tenant)
            if isinstance(key, MissingKey):
                reason = self.stopped_tenants.setdefault(batch.tenant, key.reason)
        if reason is None:
            return False
        self._finish([_outcome(row, Outcome.FAILED, reason) for row in batch.rows])
        return True

    def _within_caps(self, batch: Batch) -> Batch:
        """As much of the batch as the caps allow; the rest is skipped and the repair stops."""
        left = self.budget.rows_left()
        if len(batch.rows) > left:
            self._stop(f"the cap of {self.budget.max_rows:,} rows is reached (--max-rows)")
            self._skip(batch.rows[left:], self.stopped or "")
            batch = self._only(batch, batch.rows[:left])
        if batch.rows and not self.budget.affords(batch.tokens):
            self._stop(f"the cap of ${self.budget.max_cost:,.2f} is reached (--max-cost)")
            self._skip(batch.rows, self.stopped or "")
            return self._only(batch, [])
        return batch

    def _only(self, batch: Batch, rows: Sequence[FailingRow]) -> Batch:
        if len(rows) == len(batch.rows):
            return batch
        tokens = sum(self.counter.count(row.text) for row in rows)
        return replace(batch, rows=tuple(rows), tokens=tokens)

    def _wait_for_proof(self, batch: Batch) -> None:
        """Let the first batch of a check, and of a tenant, come back before the next is sent.

        A rule that never heals and a dead key then cost one request, not one per thread.
        """
        while self._in_flight and (self._tenant_unproven(batch) or self._check_unproven(batch)):
            self._collect()

    def _tenant_unproven(self, batch: Batch) -> bool:
        return batch.tenant not in self._trusted and any(
            work.batch.tenant == batch.tenant for work in self._in_flight.values()
        )

    def _check_unproven(self, batch: Batch) -> bool:
        unproven = _checks_of(batch) - self._healed - self.stopped_checks.keys()
        return any(unproven & _checks_of(work.batch) for work in self._in_flight.values())

    def _wait_for_room(self) -> None:
        provider, repair = self.settings.provider, self.settings.repair
        while True:
            asking = sum(isinstance(work, _Asked) for work in self._in_flight.values())
            writing = len(self._in_flight) - asking
            if asking < provider.concurrency and writing < 2 * repair.write_concurrency:
                return
            self._collect()

    def _drain(self) -> None:
        while self._in_flight:
            self._collect()

    def _collect(self) -> None:
        """Wait for something in flight and take in what has come."""
        done, _ = wait(self._in_flight, timeout=1.0, return_when=FIRST_COMPLETED)
        for future in done:
            work = self._in_flight.pop(future)
            if isinstance(work, _Asked):
                self._answered(work, future)
            else:
                self._written(work, future)
        if not self.stopped and self.stop.is_set():
            self._stop(INTERRUPTED)
        if not self.stopped:
            try:
                self.lock.check()
            except LockLostError as error:
                self._stop(str(error))

    def _answered(self, work: _Asked, future: Future[object]) -> None:
        batch = work.batch
        try:
            answer = future.result()
        except BaseException as error:
            self.budget.settle(reserved=batch.tokens, billed=0)
            self._finish([_outcome(row, Outcome.FAILED, _words(error)) for row in batch.rows])
            if isinstance(error, KeyRefused):
                self.stopped_tenants.setdefault(batch.tenant, error.reason)
                return
            raise
        assert isinstance(answer, Isolated)
        self.spending.requests += answer.requests
        self.spending.tokens += answer.tokens
        self.spending.tokens_known &= answer.tokens_known
        # What an answer did not say is billed as it was counted before.
        billed = answer.tokens if answer.tokens_known else max(answer.tokens, batch.tokens)
        self.budget.settle(reserved=batch.tokens, billed=billed)
        if answer.failure is None:
            self._trusted.add(batch.tenant)
            self._outages.pop(batch.tenant, None)
        else:
            self._take_failure(batch, answer)
        vectors = []
        for row, outcome in zip(batch.rows, answer.outcomes, strict=True):
            if isinstance(outcome, InputRejected):
                self._finish([_outcome(row, Outcome.QUARANTINED, outcome.reason)])
            elif outcome is not None:
                vectors.append(NewVector(row=row, vector=outcome))
        if vectors:
            kept = self._only(batch, [new.row for new in vectors])
            writing: Future[object] = self._write_pool.submit(self._write, vectors)
            self._in_flight[writing] = _Written(batch=kept)

    def _take_failure(self, batch: Batch, answer: Isolated) -> None:
        """Settle the rows that were not reached, and stop the tenant where it is no use to go on."""
        failure = answer.failure
        assert failure is not None
        missed = [row for row, got in zip(batch.rows, answer.outcomes, strict=True) if got is None]
        if isinstance(failure, Stopped):
            self._skip(missed, INTERRUPTED)
            return
        self._finish([_outcome(row, Outcome.FAILED, failure.reason) for row in missed])
        if isinstance(failure, (KeyRefused, ModelUnavailable)):
            self.stopped_tenants.setdefault(batch.tenant, failure.reason)
        elif isinstance(failure, ProviderUnavailable):
            outages = self._outages[batch.tenant] = self._outages.get(batch.tenant, 0) + 1
            if outages >= OUTAGES:
                self.stopped_tenants.setdefault(
                    batch.tenant, f"given up after {outages} requests in a row: {failure.reason}"
                )

    def _write(self, vectors: list[NewVector]) -> list[RowOutcome]:
        writer = self._writers.get()
        try:
            return writer.write(vectors)
        finally:
            self._writers.put(writer)

    def _written(self, work: _Written, future: Future[object]) -> None:
        try:
            outcomes = future.result()
        except (LockLostError, OSError) as error:
            reason = str(error) if isinstance(error, LockLostError) else _journal_words(error)
            self._stop(reason)
            self._finish([_outcome(row, Outcome.FAILED, reason) for row in work.batch.rows])
            return
        except BaseException as error:
            self._finish([_outcome(row, Outcome.FAILED, _words(error)) for row in work.batch.rows])
            raise
        assert isinstance(outcomes, list)
        self._learn_healing(outcomes)
        final: list[RowOutcome] = []
        for outcome in outcomes:
            if outcome.try_again:
                self._edited[outcome.row.key] = _Edited(
                    row=outcome.row, reason=outcome.reason, written=outcome.written_hash
                )
            else:
                final.append(outcome)
        self._finish(final)

    def _learn_healing(self, outcomes: Sequence[RowOutcome]) -> None:
        """A check whose first batch reads back as still failing must not bill any further."""
        fixed = {check for o in outcomes if o.outcome is Outcome.FIXED for check in o.row.checks}
        unhealed = {check: o.reason for o in outcomes for check in o.unhealed}
        self._healed |= fixed
        for check in fixed:
            self._unhealed.pop(check, None)
        for check in unhealed.keys() - fixed:
            times = self._unhealed[check] = self._unhealed.get(check, 0) + 1
            if check not in self._healed or times >= UNHEALED_BATCHES:
                self.stopped_checks.setdefault(
                    check,
                    f"the repair of {check} does not heal {self.target.name}: {unhealed[check]}",
                )

    def _find_edited_after_write(self) -> None:
        """Look at every row we fixed once more: an edit since then left it the old text's vector.

        The journal, not memory, remembers which rows those are.
        """
        waiting: list[tuple[FailingRow, str, str]] = []
        for event in self.journal.fixed(self.target.name):
            waiting.append(event)
            if len(waiting) == KEYS_AT_ONCE:
                self._reopen_edited(waiting)
                waiting = []
        self._reopen_edited(waiting)

    def _reopen_edited(self, fixed: Sequence[tuple[FailingRow, str, str]]) -> None:
        if not fixed:
            return
        now = self.reader.read_back(self.connection, [row.key for row, _, _ in fixed])
        for (row, note, written), current in zip(fixed, now, strict=True):
            if (
                current is not None
                and current.vector_hash == written
                and current.text_hash != row.text_hash
                and row.key not in self._edited
            ):
                self.account.reopen(row.tenant, note)
                self._edited[row.key] = _Edited(
                    row=row, reason="its text was edited meanwhile", written=written
                )

    def _edited_rows(self) -> Iterator[FailingRow]:
        """The edited rows as they are now, where they still need us; the others are settled."""
        edited, self._edited = self._edited, {}
        entries = list(edited.values())
        for start in range(0, len(entries), KEYS_AT_ONCE):
            some = entries[start : start + KEYS_AT_ONCE]
            found = self.reader.rows_by_key(
                self.connection,
                [entry.row.key for entry in some],
                [entry.written for entry in some],
            )
            present = {row.key for row in found}
            self._finish(
                [
                    _outcome(entry.row, Outcome.SUPERSEDED, entry.reason)
                    for entry in some
                    if entry.row.key not in present
                ]
            )
            for row in found:
                # A row that fails no check, but holds the vector we made of its old text.
                yield row if row.checks else replace(row, checks=edited[row.key].row.checks)

    def _give_up_edited(self) -> None:
        """Rows that are still edited faster than they are repaired are reported, not hidden."""
        edited, self._edited = self._edited, {}
        self._finish(
            [
                _outcome(entry.row, Outcome.SUPERSEDED, entry.reason + ", and left so")
                for entry in edited.values()
            ]
        )

    def _skip(self, rows: Sequence[FailingRow], reason: str) -> None:
        self._finish([_outcome(row, Outcome.SKIPPED, reason) for row in rows])

    def _stop(self, reason: str) -> None:
        self.stopped = self.stopped or reason

    def _finish(self, outcomes: Sequence[RowOutcome]) -> None:
        """Enter final outcomes in the account and the journal."""
        if not outcomes:
            return
        noted = [
            replace(outcome, reason=self._notes.pop(outcome.row.key, ""))
            if outcome.outcome is Outcome.FIXED
            else outcome
            for outcome in outcomes
        ]
        for outcome in noted:
            self.account.add(outcome.row, outcome.outcome, outcome.reason)
            self.on_outcome(outcome.outcome)
        try:
            self.journal.outcomes(self.target.name, noted)
        except OSError as error:
            self._stop(_journal_words(error))


def _outcome(row: FailingRow, outcome: Outcome, reason: str) -> RowOutcome:
    return RowOutcome(row=row, outcome=outcome, reason=reason)


def _checks_of(batch: Batch) -> set[str]:
    return {check for row in batch.rows for check in row.checks}


def _words(error: BaseException) -> str:
    """What stopped a batch, in words that hold nothing of its rows."""
    return str(error) if isinstance(error, IntegrityError) else f"unexpected {type(error).__name__}"


def _journal_words(error: OSError) -> str:
    return f"the journal cannot be written ({error.strerror}); nothing is replaced without it"
