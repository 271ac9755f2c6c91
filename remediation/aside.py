"""Runs a piece of work that Ctrl-C must not break off in the middle.

Knows nothing of the work.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from remediation.interruptible import wait_for_all

if TYPE_CHECKING:
    from collections.abc import Callable


def run_aside(work: Callable[[], None], *, on_interrupt: Callable[[], None]) -> None:
    """Run `work` on a thread of its own, which no signal reaches, and raise what it raises.

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
        # Work that an interrupt kept from beginning must not begin any more.
        if not working.cancel():
            wait_for_all([working])
        raise
    working.result()
