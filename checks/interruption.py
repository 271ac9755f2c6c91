"""Ends a run on SIGINT and SIGTERM: the first signal in order, the second at once.

Decides when, not how: whoever waits on a thread or a link sees KeyboardInterrupt, or a cut link.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Self

import pytest

from checks.database.open_sockets import open_sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType, TracebackType

GRACE_SECONDS = 5.0
"""What is in flight may take this long to come back and be written; then its links are cut.

A link that is being opened cannot be cut yet: the time-outs for that are shorter than this. What
is left of the 10 seconds in which a run ends is for its report.
"""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Handles both signals for as long as the `with` block runs. For the main thread.

    A signal that was ignored before stays ignored, as SIGINT is in a shell's background jobs.
    `beside` is done while what is in flight comes back.
    """

    def __init__(
        self, say: Callable[[str], None], beside: Sequence[Callable[[], object]] = ()
    ) -> None:
        self._say = say
        self._beside = beside
        self._came = False
        self._finishing = False
        self._previous: dict[int, signal.Handlers | Callable[..., object] | int | None] = {}
        self._timer = threading.Timer(GRACE_SECONDS, open_sockets.cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._signalled)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def finish(self) -> None:
        """Mark the work as over: from now on a first signal lets the report be written."""
        self._finishing = True

    def renew(self) -> None:
        """Raise KeyboardInterrupt again, where somebody took it for another error."""
        if self._came and not self._finishing:
            raise KeyboardInterrupt from None

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        if self._came:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._came = True
        self._timer.start()
        if self._finishing:
            return
        threading.Thread(target=self._prepare, name="beside", daemon=True).start()
        # This may land in the middle of another line, a stream in use refuses it, and nobody may
        # be there to read it: the interrupt counts all the same.
        with suppress(RuntimeError, OSError):
            self._say(
                f"stopping: what is in flight has {GRACE_SECONDS:.0f} s to come back;"
                " a second signal ends the run at once, without a report"
            )
        raise KeyboardInterrupt

    def _prepare(self) -> None:
        with suppress(Exception):
            for work in self._beside:
                work()


INTERRUPTION = pytest.StashKey[Interruption]()
"""From the moment on from which the run ends in order."""
MEANWHILE = pytest.StashKey["list[Callable[[], object]]"]()
"""What can be done while what is in flight comes back: the end of the run need not wait for it."""


def end_in_order(config: pytest.Config) -> None:
    """From now on let one signal end the run in order; see `Interruption`."""
    if INTERRUPTION in config.stash:
        return

    def say(line: str) -> None:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(line)

    signals = ExitStack()
    config.add_cleanup(signals.close)
    beside = config.stash.setdefault(MEANWHILE, [])
    config.stash[INTERRUPTION] = signals.enter_context(Interruption(say, beside))
