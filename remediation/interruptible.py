"""Lets a signal end every wait of the main thread, and remembers why a repair ended.

The kernel may hand a signal to a thread that is just being created. Python leaves the handler to
the main thread, which never runs it in a wait without a time-out. So every wait here has one.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from checks.database.connection import reason_of
from checks.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


Returned = TypeVar("Returned")

AWAKE_SECONDS = 0.1
"""How long a signal goes unnoticed at most; the same as in psycopg's own waits."""


def wait_for_all(
    futures: Collection[Future[Any]], *, meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Return when all have ended. Raises what `meanwhile` raises, and no error of theirs."""
    while wait(futures, timeout=AWAKE_SECONDS, return_when=ALL_COMPLETED).not_done:
        meanwhile()


def wait_for_one(
    futures: Collection[Future[Returned]], *, meanwhile: Callable[[], object] = lambda: None
) -> set[Future[Returned]]:
    """Return the unfinished ones when at least one has ended. Raises as `wait_for_all` does."""
    while True:
        ended, others = wait(futures, timeout=AWAKE_SECONDS, return_when=FIRST_COMPLETED)
        if ended or not others:
            return others
        meanwhile()


def wait_until_quiet(
    futures: Collection[Future[Returned]],
    *,
    quiet: float,
    meanwhile: Callable[[], object] = lambda: None,
) -> set[Future[Returned]]:
    """Return the unfinished ones when none has ended for so many seconds; none when all have."""
    left, since = set(futures), time.monotonic()
    while left:
        ended, left = wait(left, timeout=AWAKE_SECONDS, return_when=FIRST_COMPLETED)
        if ended:
            since = time.monotonic()
        elif time.monotonic() - since > quiet:
            return left
        meanwhile()
    return left


def run_aside(work: Callable[[], None], *, on_interrupt: Callable[[], None]) -> None:
    """Run `work` on a thread of its own, which no signal interrupts, and raise what it raises.

    An interrupt calls `on_interrupt`, waits for the work to end, and goes on.
    """
    working: Future[None] = Future()

    def begin() -> None:
        if not working.set_running_or_notify_cancel():
            return
        try:
            work()
        except BaseException as error:
            working.set_exception(error)
        else:
            working.set_result(None)

    try:
        threading.Thread(target=begin, name="aside").start()
        wait_for_all([working])
    except BaseException:
        on_interrupt()
        # Work that had not begun when the interrupt came must not begin any more.
        if not working.cancel():
            wait_for_all([working])
        raise
    working.result()


INTERRUPTED = "the repair was interrupted"


@dataclass(kw_only=True, slots=True)
class Ending:
    """Whether and why the repair of one table must end. Changed by one thread."""

    stop: threading.Event
    """Set when the repair must end: waits of its threads end at once."""
    reason: str | None = None
    """Why nothing more is sent; None while the repair goes on."""
    rest_is_counted: bool = False
    """Whether rows that are still unread must be read, to count them as skipped."""

    def end(self, reason: str, *, rest_is_counted: bool = False) -> str:
        """Send no more, but finish what is in flight. Returns the reason that came first."""
        if self.reason is None:
            self.reason, self.rest_is_counted = reason, rest_is_counted
        return self.reason

    def break_off(self, reason: str) -> None:
        """Send no more, and end all waits: what is in flight could not be written anyway."""
        self.end(reason)
        self.stop.set()


def words_of(error: BaseException) -> str:
    """What stopped the work, in words that quote none of its rows."""
    if isinstance(error, psycopg.Error):
        return f"the database refused: {reason_of(error)}"
    return str(error) if isinstance(error, IntegrityError) else f"unexpected {type(error).__name__}"


def out_of_memory(error: BaseException) -> bool:
    """Whether that is what ended the work; a thread's stack is memory too."""
    return isinstance(error, MemoryError) or str(error) == "can't start new thread"
