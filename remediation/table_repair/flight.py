"""Runs requests and writes on threads, and hands back what they came to.

Decides nothing. A request is a batch; a write is as many rows as its writer takes at once, of
whatever batches: the first few rows prove a repair before the rest of their batch is written.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import psycopg

from checks.errors import CannotExamineError
from remediation.provider.bisection import Isolated, embed_isolating
from remediation.table_repair.probing.late_probes import LATE_SECONDS
from remediation.writing.verdicts import untried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from remediation.provider.bisection import Cut
    from remediation.provider.embedders import Embedders
    from remediation.provider.errors import Tries
    from remediation.selection.batching import Batch, FailingRow, Key
    from remediation.writing.table_statements import NewVector
    from remediation.writing.verdicts import LockedRow, Written
    from remediation.writing.writer import Writer


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """A batch that came back from the provider: its answer, or what was raised instead."""

    batch: Batch
    result: Isolated | BaseException
    late: bool = False
    """Whether it took its time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Landed:
    """Rows whose write is over: what came of it, or what was raised instead."""

    rows: Sequence[FailingRow]
    result: Written[NewVector] | BaseException


class Flight:
    """What is asked for and what is written of one table, for as long as the `with` block runs.

    As many requests at a time as `asking`, and as many writes as there are writers; so many batches
    as requests, and two for each writer, are in hand at most. Tenants whose endpoints are slow to
    answer leave their places to others: there are twice as many then. Used by one thread.
    """

    def __init__(
        self,
        *,
        embedders: Embedders,
        asking: int,
        writers: Sequence[Writer[NewVector]],
        shorter: Callable[[str], Iterable[Cut]],
    ) -> None:
        self._embedders = embedders
        self._shorter = shorter
        self._asking = asking
        self._asked: dict[int, tuple[Batch, float]] = {}
        """Each batch that is asked for, and since when."""
        self._writing: dict[Key, tuple[FailingRow, int]] = {}
        """Each row that is written, and the number of the write that it was given with."""
        self._left: dict[int, int] = {}
        """The rows of each such write that have not landed."""
        self._numbers = itertools.count()
        self._came: queue.SimpleQueue[Answered | Landed] = queue.SimpleQueue()
        self._writers = tuple(writers)
        self._idle: queue.SimpleQueue[Writer[NewVector]] = queue.SimpleQueue()
        for writer in writers:
            self._idle.put(writer)
        self._to_write: deque[NewVector] = deque()
        self._earlier: dict[Key, LockedRow[NewVector]] = {}
        """Of the rows that wait to be written: what a try before came to."""
        self._taking = threading.Lock()

    def __enter__(self) -> Self:
        # An interrupt may come in the midst of it, and a thread that waits for work, of which
        # nobody knows, would keep the process from ending.
        with ExitStack() as threads:
            for writer in self._writers:
                threads.callback(writer.close)
            self._askers = threads.enter_context(
                ThreadPoolExecutor(2 * self._asking, thread_name_prefix="ask")
            )
            self._scribes = threads.enter_context(
                ThreadPoolExecutor(len(self._writers), thread_name_prefix="write")
            )
            for _ in self._writers:
                # Beside the first request: a connection takes longer than the write that proves it.
                self._scribes.submit(self._connect)
            self._threads = threads.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._threads.close()

    def __bool__(self) -> bool:
        """Whether anything is in flight."""
        return bool(self._asked or self._writing)

    @property
    def full(self) -> bool:
        """Whether another batch would only wait, in memory, for a thread, whosever it is."""
        asked = sum(not late for _, late in self._asked_since())
        in_hand = asked + len(self._left)
        return (
            asked >= self._asking
            or in_hand >= self._asking + 2 * len(self._writers)
            or len(self._asked) >= 2 * self._asking
        )

    def full_for(self, tenant: str | None) -> bool:
        """Whether no more may be asked of a tenant, who leaves its places to others alone."""
        asked = sum(not late or batch.tenant == tenant for batch, late in self._asked_since())
        return asked >= self._asking

    @property
    def tenants_asked(self) -> Counter[str | None]:
        """The tenants whose keys are in use, and for how many batches."""
        return Counter(batch.tenant for batch, _ in self._asked.values())

    @property
    def late(self) -> set[str | None]:
        """The tenants who have not answered for a while."""
        return {batch.tenant for batch, late in self._asked_since() if late}

    @property
    def writing(self) -> bool:
        """Whether rows are written."""
        return bool(self._writing)

    @property
    def rows(self) -> Iterator[FailingRow]:
        """The rows that are asked for or written."""
        return self._rows(batch for batch, _ in self._asked.values())

    def soon_back(self, tenant: str | None) -> Iterator[FailingRow]:
        """The same without what other tenants' endpoints have not answered for a while."""
        return self._rows(b for b, late in self._asked_since() if not late or b.tenant == tenant)

    def _asked_since(self) -> Iterator[tuple[Batch, bool]]:
        """What is asked for, and whether it has been for a while."""
        late = time.monotonic() - LATE_SECONDS
        return ((batch, at <= late) for batch, at in self._asked.values())

    def _rows(self, asked: Iterable[Batch]) -> Iterator[FailingRow]:
        rows = itertools.chain.from_iterable(batch.rows for batch in asked)
        return itertools.chain(rows, (row for row, _ in self._writing.values()))

    @property
    def wrote(self) -> tuple[int, float]:
        """Rows that were written so far, and the seconds that all writers took together."""
        return (
            sum(writer.rows for writer in self._writers),
            sum(writer.seconds for writer in self._writers),
        )

    def ask(self, batch: Batch, tries: Tries) -> None:
        """Send a batch to the provider with its tenant's key, after the `tries` that failed."""
        self._asked[id(batch)] = batch, time.monotonic()
        self._askers.submit(self._ask, batch, tries)

    def write(
        self, vectors: Sequence[NewVector], earlier: Sequence[LockedRow[NewVector]] = ()
    ) -> None:
        """Write vectors; `earlier` is what a try before came to for some of them."""
        number = next(self._numbers)
        self._writing |= {new.row.key: (new.row, number) for new in vectors}
        self._left[number] = len(vectors)
        with self._taking:
            self._to_write += vectors
            self._earlier |= {held.new.row.key: held for held in earlier}
        for _ in self._writers:
            self._scribes.submit(self._write)

    def take_in(self, seconds: float) -> Iterator[Answered | Landed]:
        """What comes back within that time; each leaves the flight as it is taken."""
        wait: float | None = seconds
        while self:
            try:
                came = self._came.get(timeout=wait) if wait else self._came.get_nowait()
            except queue.Empty:
                return
            wait = None
            if isinstance(came, Answered):
                _, at = self._asked.pop(id(came.batch))
                came = replace(came, late=time.monotonic() - at >= LATE_SECONDS)
            else:
                for row in came.rows:
                    _, number = self._writing.pop(row.key)
                    self._left[number] -= 1
                    if not self._left[number]:
                        del self._left[number]
            yield came

    def _connect(self) -> None:
        writer = self._idle.get()
        # What prevents it is told by the first write, which tries again.
        with suppress(psycopg.Error, CannotExamineError, LookupError):
            writer.connect()
        self._idle.put(writer)

    def _ask(self, batch: Batch, tries: Tries) -> None:
        try:
            with self._embedders.lend(batch.tenant) as embedder:
                result: Isolated | BaseException = embed_isolating(
                    embedder,
                    [row.text for row in batch.rows],
                    earlier=tries,
                    shorter=self._shorter,
                )
        except BaseException as error:
            result = error
        self._came.put(Answered(batch=batch, result=result))

    def _write(self) -> None:
        """Write until nothing waits, a fair share of it at a time."""
        writer = self._idle.get()
        while chunk := self._take(writer.rows_at_once, writer.least_rows):
            self._came.put(self._written(writer, chunk))
        self._idle.put(writer)

    def _written(self, writer: Writer[NewVector], chunk: Sequence[NewVector]) -> Landed:
        rows = [new.row for new in chunk]
        try:
            written = writer.write(chunk, tuple(self._tried(chunk).values()))
        except BaseException as error:
            return Landed(rows=rows, result=error)
        if written.held and not written.outcomes:
            # What holds a whole chunk may hold the rest: each try of it would cost a wait.
            rest = self._take(len(self._to_write), len(self._to_write))
            known, whole = self._tried(rest), any(held.whole for held in written.held)
            waiting = [untried(new, known, whole=whole) for new in rest]
            written = replace(written, held=(*waiting, *written.held))
            rows += [new.row for new in rest]
        return Landed(rows=rows, result=written)

    def _take(self, most: int, least: int) -> list[NewVector]:
        """Take a fair share of what waits to be written, of so many rows, as far as there are."""
        with self._taking:
            waiting = len(self._to_write)
            fair = max(-(-waiting // len(self._writers)), least)
            return [self._to_write.popleft() for _ in range(min(most, fair, waiting))]

    def _tried(self, chunk: Sequence[NewVector]) -> dict[Key, LockedRow[NewVector]]:
        """What earlier tries came to, of those rows of a chunk that were tried before."""
        with self._taking:
            keys = self._earlier.keys() & {new.row.key for new in chunk} if self._earlier else ()
            return {key: self._earlier.pop(key) for key in keys}
