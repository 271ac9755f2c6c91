"""Has workers repair the rows of one table: defers jobs, takes in what they did, gives the account.

Stands where the engine stands: probe, lock and report are as ever. Asks no provider and writes to
no table of the user's.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from procrastinate.jobs import Status

from checks.awake import run_aside
from checks.database.connection import cancel
from checks.interruption import GRACE_SECONDS
from remediation.distributed.orders import orders_of
from remediation.distributed.part_outcomes import PartOutcomes
from remediation.distributed.parts import split
from remediation.distributed.shared.alive import RUN_LOCK_CLASS
from remediation.distributed.shared.journal import take_lines
from remediation.distributed.shared.queue import (
    MOST_TRIES,
    REPAIR,
    STALLED_SECONDS,
    queue_name,
)
from remediation.distributed.shared.run_rows import WorkRows
from remediation.ending import INTERRUPTED, Ending, words_of
from remediation.journal.journal import journal_words
from remediation.selection.row_reader import bare_row
from remediation.throttling.wait_reasons import WaitReason
from remediation.writing.repair_lock import LockLostError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    import procrastinate
    from procrastinate.jobs import Job

    from checks.database.connection import Connection
    from remediation.distributed.shared.budget import SharedBudget
    from remediation.journal.journal import Journal
    from remediation.journal.outcomes import Account, Outcome
    from remediation.journal.throughput import Throughput
    from remediation.run.repair import Repair
    from remediation.selection.batching import FailingRow, Key
    from remediation.selection.put_aside import KeyedRow, PutAside
    from remediation.selection.row_reader import RowReader
    from remediation.table_repair.circuit_breaker import CircuitBreaker
    from remediation.table_repair.probing.late_probes import LateProbes
    from remediation.throttling.throttle import Throttle
    from remediation.writing.repair_lock import RepairLock

POLL_SECONDS = 0.2
STALLED_EVERY_SECONDS = 2.0
QUIET_SECONDS = 3.0
"""Without a worker at work, until that is told."""
NO_WORKER_SECONDS = 300.0
"""Without a worker at work, until the repair gives up."""
LAST_WORDS_SECONDS = GRACE_SECONDS - 1.0
"""For workers to end what they are at once the repair must stop, before our own links are cut."""
JOBS_AT_ONCE = 50


@dataclass(kw_only=True)
class Coordinator:
    """One table's repair by workers. Create, `run()` once, read `account` and `stopped`."""

    repair: Repair
    app: procrastinate.App
    shared: Connection
    """To the shared schema, for the coordinating thread."""
    reader: RowReader
    connection: Connection
    journal: Journal
    lock: RepairLock
    budget: SharedBudget
    stop: threading.Event
    throttle: Throttle
    on_outcome: Callable[[Outcome], None]
    tenants: Sequence[str] | None
    breaker: CircuitBreaker
    late: LateProbes
    """Probes without an answer yet; their tenants' rows are given to workers after it."""
    aside: PutAside
    """Rows of late tenants; what is left of them at the end is for another call, once no other
    table waits."""
    others_wait: Callable[[], bool]
    """Whether a table that is still to come has rows of tenants who are not late."""
    account: Account
    """The outcomes so far."""
    ended: threading.Event | None
    """Set from outside, where no signal can interrupt."""
    _seen_work: float = field(default=0.0, init=False)
    _numbers: Iterator[int] = field(default_factory=itertools.count, init=False)
    _without_job: list[int] = field(default_factory=list, init=False)
    """Parts that were entered, by number."""

    def __post_init__(self) -> None:
        self._table = self.reader.target.name
        self._work = WorkRows(connection=self.shared, run_id=self.repair.run_id, table=self._table)
        self._ending = Ending(stop=self.stop)
        self._outcomes = PartOutcomes(
            reader=self.reader,
            connection=self.connection,
            journal=self.journal,
            on_outcome=self.on_outcome,
            account=self.account,
        )
        self._late = self.breaker.endpoints.late

    @property
    def stopped(self) -> str | None:
        """Why the repair ended before its last row; None where it did not."""
        return self._ending.reason

    @property
    def throughput(self) -> Throughput | None:
        """What the workers measured together, of the jobs that they ended."""
        return self._outcomes.throughput

    def run(self) -> None:
        """Coordinate until every part has ended, or the repair must stop.

        Raises what is not foreseen, KeyboardInterrupt included, after the account is settled.
        """

        def interrupt() -> None:
            self.stop.set()
            cancel(self.connection)

        run_aside(lambda: asyncio.run(self._coordinate()), on_interrupt=interrupt)

    async def _coordinate(self) -> None:
        before = self.budget.usage
        try:
            async with self.app.open_async():
                await self._defer()
                await self._wait_for_all()
        except (LockLostError, OSError) as error:
            words = journal_words(error) if isinstance(error, OSError) else str(error)
            self._ending.break_off(words)
        except BaseException as error:
            self._ending.break_off(
                INTERRUPTED if self.stop.is_set() else f"the repair broke off: {words_of(error)}"
            )
            raise
        finally:
            with suppress(psycopg.Error, OSError):
                self._hear_the_last()
            self._outcomes.settle_rest(self._ending.reason or "")
            with suppress(psycopg.Error):
                self._work.learn_stops(self.breaker)
                self.breaker.answered(None, None, self.budget.usage - before)

    async def _defer(self) -> None:
        """Make jobs of all failing rows."""
        token = secrets.randbits(31)
        self.lock.also_hold(RUN_LOCK_CLASS, token)
        orders = orders_of(self.repair, self.reader, others_wait=self.others_wait())
        self._work.begin(token, orders)
        self._work.tell_stops(self.breaker)
        if self.aside.tenants:
            return
        # The table is searched once. The second pass is to know which rows were looked at.
        self.reader.selected.replace(map(self._entered, split(self._of_prompt_tenants())))
        await self._defer_jobs()

    def _of_prompt_tenants(self) -> Iterator[FailingRow]:
        """The failing rows, without those whose tenants wait for their probe."""
        rows = self.reader.failing_rows(self.connection, tenants=self.tenants, bare=True)
        for row in rows:
            if row.tenant in self.late.tenants:
                self.aside.put([row])
            else:
                yield row

    def _entered(self, part: list[KeyedRow]) -> list[Key]:
        """Enter a part; returns its keys."""
        number, keys = next(self._numbers), [key for _, *key in part]
        self._work.add_part(number, part, self.repair.quarantine.entries(self._table, keys))
        self._outcomes.select(number, len(part))
        self._without_job.append(number)
        self.lock.beat()
        return [tuple(key) for key in keys]

    async def _defer_jobs(self, *, last: bool = False) -> None:
        """Make a job of each part that has none; the `last` put nothing aside."""
        task = self.app.configure_task(REPAIR, queue=queue_name(self.repair.settings))
        while some := self._without_job[:JOBS_AT_ONCE]:
            jobs: list[dict[str, Any]] = [
                {"run_id": self.repair.run_id, "table": self._table, "part": number, "last": last}
                for number in some
            ]
            await task.batch_defer_async(*jobs)
            del self._without_job[: len(some)]
            self.lock.beat()

    async def _defer_late(self) -> None:
        """Make jobs of rows whose tenants' probes were answered meanwhile, and, once there are no
        others, of those that workers put aside.
        """
        self.late.take_in()
        last = not self._outcomes.open_parts
        wait = self.late.tenants if last else self.late.tenants | self._late
        while rows := self.aside.take(lambda tenant: tenant not in wait):
            self._work.tell_stops(self.breaker)
            for part in split(bare_row(row[1:], row[0]) for row in rows):
                self.reader.selected.append(self._entered(part))
        await self._defer_jobs(last=last)

    @property
    def _leaves_the_rest(self) -> bool:
        """Whether what is left of this table comes after the tables that follow."""
        slow = self.late.tenants | self._late
        return not self._outcomes.open_parts and self.aside.tenants <= slow and self.others_wait()

    async def _wait_for_all(self) -> None:
        looked = self._seen_work = time.monotonic()
        while self._outcomes.open_parts or self.aside.tenants:
            if self._leaves_the_rest:
                self._late |= self.late.tenants
                return
            if self._ending.reason is None:
                await self._defer_late()
            running = self._take_in()
            if self.ended is not None and self.ended.is_set():
                self.stop.set()
            if self.stop.is_set():
                self._ending.end(INTERRUPTED)
                return
            if self._ending.reason and not running:
                return
            self.lock.beat()
            self._see_that_someone_works(running)
            if time.monotonic() - looked >= STALLED_EVERY_SECONDS:
                looked = time.monotonic()
                await self._give_stalled_to_others()
            await asyncio.sleep(POLL_SECONDS)

    def _take_in(self) -> int:
        """Take in what workers did; returns how many parts they are at."""
        # First the states: what an ended part did was entered before it ended.
        states = self._work.parts()
        for line in take_lines(self.shared, self.repair.run_id, self.journal):
            self._outcomes.learn(line)
        for state in states:
            if not state.ended:
                continue
            if state.stopped and self._ending.reason is None:
                # A cap, or what would stop the next part too: no further part begins.
                self._ending.end(state.stopped)
                self._work.drop_jobs()
            rows = self._work.take_part(state.number)
            aside = self._outcomes.fold(state.number, rows, unread=state.stopped)
            self.aside.put(bare_row(row[1:], row[0]) for row in aside)
            self._late.update(row[0] for row in aside)
        return sum(state.begun for state in states)

    def _see_that_someone_works(self, running: int) -> None:
        now = time.monotonic()
        if running or not self._outcomes.open_parts:
            self._seen_work = now
        quiet = now - self._seen_work
        if quiet > NO_WORKER_SECONDS:
            self._ending.end(
                "no worker with these settings took a job; start one with"
                " `embedding-integrity worker`"
            )
            self._work.drop_jobs()
        self.throttle.tell(
            WaitReason(
                reason="no worker with these settings is at work; `embedding-integrity worker`"
                " starts one"
            )
            if quiet > QUIET_SECONDS
            else None
        )

    async def _give_stalled_to_others(self) -> None:
        """Put the jobs of dead workers back into the queue."""
        for job in await self.app.job_manager.get_stalled_jobs(
            queue=queue_name(self.repair.settings), seconds_since_heartbeat=STALLED_SECONDS
        ):
            if not self._is_ours(job):
                continue
            number = int(str(job.task_kwargs["part"]))
            if job.attempts + 1 < MOST_TRIES:
                self._work.end_part(number, ended=False, stopped=None)
                await self.app.job_manager.retry_job(job)
            else:
                assert job.id is not None
                await self.app.job_manager.finish_job_by_id_async(
                    job.id, status=Status.FAILED, delete_job=True
                )
                self._work.end_part(
                    number,
                    ended=True,
                    stopped=f"a job was begun {MOST_TRIES} times and never ended",
                )

    def _is_ours(self, job: Job) -> bool:
        return (
            job.task_kwargs.get("run_id") == self.repair.run_id
            and job.task_kwargs.get("table") == self._table
        )

    def _hear_the_last(self) -> None:
        """Have workers end, and take in what they did until then."""
        if self._outcomes.open_parts:
            self._work.end()
            until = time.monotonic() + LAST_WORDS_SECONDS
            while self._take_in() and time.monotonic() < until:
                time.sleep(POLL_SECONDS)
            for state in self._work.parts():
                rows = self._work.take_part(state.number)
                self._outcomes.leave(state.number, rows, self._ending.reason or "")
        self._work.end()
        if self._ending.reason is None:
            return
        rest: list[KeyedRow] = [(row.tenant, *row.key) for row in self.aside.take_all()]
        number = next(self._numbers)
        self._outcomes.select(number, len(rest))
        self._outcomes.leave(number, rest, self._ending.reason)
