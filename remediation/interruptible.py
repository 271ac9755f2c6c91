"""Waits of the main thread that a signal always ends.

The kernel may hand a signal to a thread that is just being created. Python then leaves its handler
to the main thread, which a wait without a time-out keeps from ever running: so no wait here is one.
"""

from __future__ import annotations

from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

Result = TypeVar("Result")

AWAKE_SECONDS = 0.1
"""A signal is noticed after so long at most, as in psycopg's own waits."""


def wait_for_all(
    futures: Collection[Future[Any]], *, meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Return when all have ended; raises nothing of theirs, but what `meanwhile` raises."""
    while wait(futures, timeout=AWAKE_SECONDS, return_when=ALL_COMPLETED).not_done:
        meanwhile()


def wait_for_one(
    futures: Collection[Future[Result]], *, meanwhile: Callable[[], object] = lambda: None
) -> set[Future[Result]]:
    """Return those that go on when at least one has ended; raises as `wait_for_all` does."""
    while True:
        ended, others = wait(futures, timeout=AWAKE_SECONDS, return_when=FIRST_COMPLETED)
        if ended or not others:
            return others
        meanwhile()
