"""Runs a piece of work that Ctrl-C must not break off in the middle.

Knows nothing of the work.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def run_aside(work: Callable[[], None], *, on_interrupt: Callable[[], None]) -> None:
    """Run `work` on a thread of its own, which no signal reaches, and raise what it raises.

    An interrupt calls `on_interrupt`, waits for the work to end, and goes on.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="aside") as thread:
        try:
            working = thread.submit(work)
            wait([working])
        except BaseException:
            on_interrupt()
            # Beyond the block, when the work has ended.
            raise
        working.result()
