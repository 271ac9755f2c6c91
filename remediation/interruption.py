"""Ends a repair on SIGINT and SIGTERM: the first signal in order, the second at once.

Decides when, not how: whoever waits on a thread or a link sees KeyboardInterrupt, or a cut link.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Self

from checks.database.open_sockets import open_sockets
from remediation.options import reporter_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

    import pytest

GRACE_SECONDS = 5.0
"""What is in flight may take this long to come back and be written; then its links are cut.

A link that is being opened cannot be cut yet: the time-outs for that are shorter than this. What
is left of the 10 seconds in which a run ends is for its report.
"""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Handles both signals for as long as the `with` block runs. For the main thread.

    A signal that was ignored before stays ignored, as SIGINT is in a shell's background jobs.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
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
        """Mark the repair as over: from now on a first signal lets the report be written."""
        self._finishing = True

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        if self._came:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._came = True
        if self._finishing:
            return
        self._timer.start()
        # This may land in the middle of another line, a stream in use refuses it, and nobody may
        # be there to read it: the interrupt counts all the same.
        with suppress(RuntimeError, OSError):
            self._say(
                f"stopping: what is in flight has {GRACE_SECONDS:.0f} s to come back;"
                " a second signal ends the run at once, without a report"
            )
        raise KeyboardInterrupt


@contextmanager
def ends_in_order(config: pytest.Config) -> Iterator[None]:
    """Let one signal end the block in order; after the block, a first one waits for the report.

    The report is written when the session finishes. See `Interruption`.
    """
    reporter = reporter_of(config)

    def say(line: str) -> None:
        reporter.ensure_newline()
        reporter.write_line(line)

    signals = ExitStack()
    config.add_cleanup(signals.close)
    interruption = signals.enter_context(Interruption(say))
    try:
        yield
    finally:
        interruption.finish()
