"""Pauses a repair while something is in its way: a thread looks, the others ask before they begin.

Decides nothing about health, and ends nothing: who waits here is let go by `stop`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from remediation.throttling.pauses import Pauses
from remediation.throttling.wait_reasons import WaitReason

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from remediation.throttling.health import Health

LOOK_SECONDS = 0.5
STALE_SECONDS = 5.0
"""A look that takes longer hangs; what it saw before is no longer known to hold."""
POLL_SECONDS = 0.1


class Throttle:
    """The pauses of one repair, for as long as the `with` block runs. Safe across threads.

    `announce` is called with a line for each pause that is told, and for its end. It is called by
    `tell` alone, and so on the thread of the caller.
    """

    def __init__(
        self,
        health: Health,
        announce: Callable[[str], None],
        *,
        every: float = LOOK_SECONDS,
    ) -> None:
        self._every = every
        self._health = health
        self._limited = health.limited
        self._closing = threading.Event()
        self._seen: tuple[float, WaitReason | None] = (
            time.monotonic(),
            WaitReason(reason="what limits the repair has not been read yet", expected=True),
        )
        self._telling = threading.Lock()
        self._pauses = Pauses(announce=announce)

    def __enter__(self) -> Self:
        if self._limited:
            # A look that hangs in a dead network must not keep the program from its end.
            threading.Thread(target=self._look_on, name="health", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        with self._telling:
            self._pauses.sum_up(time.monotonic())

    def hold(self) -> WaitReason | None:
        """Why no request may be sent and no write begun now, or None."""
        if not self._limited:
            return None
        # Ahead of each batch: what a person orders holds at once.
        if (ordered := self._health.look_for_file()) is not None:
            return ordered
        seen_at, hold = self._seen
        age = time.monotonic() - seen_at
        if hold is None and age > STALE_SECONDS:
            return WaitReason(reason=f"the health of the server could not be read for {age:,.0f} s")
        return hold

    def wait(self, stop: threading.Event) -> bool:
        """Wait while the repair is paused; False where `stop` ended the wait."""
        while self.hold() is not None:
            if stop.wait(POLL_SECONDS):
                return False
        return True

    def tell(self, waiting: WaitReason | None = None) -> None:
        """Announce a pause that has begun, or that is over. To be called every second or so.

        `waiting` is what the caller itself waits for, where nothing else pauses the repair.
        """
        now, hold = time.monotonic(), self.hold() or waiting
        with self._telling:
            if hold is None:
                self._pauses.over(now)
            else:
                self._pauses.go_on(now, hold)

    def _look_on(self) -> None:
        try:
            while not self._closing.is_set():
                hold = self._health.look()
                self._seen = (time.monotonic(), hold)
                self._closing.wait(self._every)
        except Exception as error:
            # Nobody looks any more, and the repair must not go on as if all were well.
            reason = f"the health of the server cannot be read: {type(error).__name__}"
            self._seen = (time.monotonic(), WaitReason(reason=reason))
        finally:
            self._health.close()
