"""Runs requests and writes on threads, and hands back what they came to.

Decides nothing.
"""

from __future__ import annotations

import queue
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from remediation.provider.bisection import Isolated, embed_isolating

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from remediation.provider.bisection import Cut
    from remediation.provider.embedders import Embedders
    from remediation.provider.errors import Tries
    from remediation.selection.batching import Batch
    from remediation.writing.table_statements import NewVector
    from remediation.writing.verdicts import LockedRow, Written
    from remediation.writing.writer import Writer


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A batch that came back: the provider's answer, what was written, or what was raised."""

    batch: Batch
    result: Isolated | Written[NewVector] | BaseException
    writing: bool


class WorkerPool:
    """The threads of one table's repair, for as long as the `with` block runs.

    As many requests at a time as `asking`, and as many writes as there are writers.
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
        self._writers = tuple(writers)
        self._idle: queue.SimpleQueue[Writer[NewVector]] = queue.SimpleQueue()
        for writer in writers:
            self._idle.put(writer)
        self._to_write: queue.SimpleQueue[_Write] = queue.SimpleQueue()
        self._works: dict[Future[Any], tuple[Batch, bool]] = {}
        self._threads = ExitStack()

    def __enter__(self) -> Self:
        for writer in self._writers:
            self._threads.callback(writer.close)
        self._askers = self._threads.enter_context(
            ThreadPoolExecutor(self._asking, thread_name_prefix="ask")
        )
        self._scribes = self._threads.enter_context(
            ThreadPoolExecutor(len(self._writers), thread_name_prefix="write")
        )
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
        return bool(self._works)

    @property
    def full(self) -> bool:
        """Whether another batch would only wait, in memory, for a thread."""
        asking = sum(not writing for _, writing in self._works.values())
        return asking >= self._asking or len(self._works) >= self._asking + 2 * len(self._writers)

    @property
    def batches(self) -> Iterator[Batch]:
        """The batches in flight."""
        return (batch for batch, _ in self._works.values())

    def ask(self, batch: Batch, tries: Tries) -> None:
        """Send a batch to the provider with its tenant's key, after the `tries` that failed."""
        self._works[self._askers.submit(self._ask, batch, tries)] = (batch, False)

    def write(
        self,
        batch: Batch,
        vectors: Sequence[NewVector],
        earlier: Sequence[LockedRow[NewVector]] = (),
    ) -> None:
        """Write the vectors that a batch was given; `earlier` is what a try before came to."""
        write = _Write(vectors=vectors, earlier=earlier)
        self._works[write.came] = (batch, True)
        self._to_write.put(write)
        self._scribes.submit(self._write_some)

    def take_finished(self, seconds: float) -> Iterator[Finished]:
        """What comes back within that time; each leaves the flight as it is taken."""
        done, _ = wait(self._works, timeout=seconds, return_when=FIRST_COMPLETED)
        for future in done:
            batch, writing = self._works.pop(future)
            result = future.exception() or future.result()
            yield Finished(batch=batch, result=result, writing=writing)

    def _ask(self, batch: Batch, tries: Tries) -> Isolated:
        with self._embedders.lend(batch.tenant) as embedder:
            return embed_isolating(
                embedder,
                [row.text for row in batch.rows],
                earlier=tries,
                shorter=self._shorter,
            )

    def _write_some(self) -> None:
        """Write what waits in one transaction, as far as that may be large, and share it fairly."""
        writer = self._idle.get()
        try:
            some: list[_Write] = []
            rows, fair = 0, -(-self._to_write.qsize() // len(self._writers))
            while not some or (rows < writer.rows_at_once and len(some) < fair):
                some.append(self._to_write.get_nowait())
                rows += len(some[-1].vectors)
        except queue.Empty:
            pass  # somebody took it along
        if some:
            _write_together(writer, some)
        self._idle.put(writer)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Write:
    """The vectors of one batch that wait for a writer, and what will have come of them."""

    vectors: Sequence[NewVector]
    earlier: Sequence[LockedRow[NewVector]]
    came: Future[Written[NewVector]] = field(default_factory=Future)


def _write_together(writer: Writer[NewVector], some: Sequence[_Write]) -> None:
    """Write several batches as one, and tell each what came of its own rows."""
    try:
        written = writer.write(
            [new for write in some for new in write.vectors],
            [held for write in some for held in write.earlier],
        )
    except BaseException as error:
        for write in some:
            write.came.set_exception(error)
        return
    for write in some:
        own = {new.row.key for new in write.vectors}
        write.came.set_result(
            replace(
                written,
                outcomes=tuple(each for each in written.outcomes if each.row.key in own),
                held=tuple(each for each in written.held if each.new.row.key in own),
            )
        )
