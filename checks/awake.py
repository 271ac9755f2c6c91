"""Lets a signal end every wait of the main thread.

The kernel may hand a signal to a thread that is just being created. Python leaves the handler to
the main thread, which never runs it in a wait without a time-out. So every wait here has one.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING, Any, TypeVar

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
