"""Tells the pauses of a repair in few lines: the first, another cause, a long one, and their sum.

A throttled repair may stop and go on every second. Values and words only; waits for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from remediation.throttling.wait_reasons import WaitReason

EXPECTED_SECONDS = 5.0
"""A pause until the first measurement, or for the limits of keys, is told where it lasts longer."""
LONG_SECONDS = 10.0
"""After the first pause that was told, a later one is told where it lasts as long as this."""


@dataclass(kw_only=True, slots=True)
class Pauses:
    """Of one repair; used by one thread at a time. Times are of the monotonic clock, in seconds."""

    announce: Callable[[str], None]
    _now: _Pause | None = None
    _past: int = 0
    """Pauses that are over and count."""
    _told: int = 0
    _seconds: float = 0.0

    def go_on(self, now: float, reason: WaitReason) -> None:
        """A pause begins, or lasts still."""
        pause = self._now = self._now or _Pause(since=now)
        pause.counts |= not reason.expected
        least = LONG_SECONDS if self._told else EXPECTED_SECONDS if reason.expected else 0.0
        # What is out of order, or was ordered, is told beside what was to be expected.
        another = pause.told is not None and pause.told.expected and not reason.expected
        if another or (pause.told is None and now - pause.since >= least):
            self._told += pause.told is None
            pause.told, pause.counts = reason, True
            self.announce(f"the repair is paused: {reason.reason}")

    def over(self, now: float, *, goes_on: bool = True) -> None:
        """Nothing pauses the repair, or nothing any more."""
        pause, self._now = self._now, None
        if pause is None or not pause.counts:
            return
        seconds = now - pause.since
        self._past, self._seconds = self._past + 1, self._seconds + seconds
        if pause.told is not None and goes_on:
            self.announce(f"the repair goes on after {seconds:,.0f} s")

    def sum_up(self, now: float) -> None:
        """The repair is over."""
        self.over(now, goes_on=False)
        if self._past > self._told:
            self.announce(
                f"the repair was paused {self._past:,} times, {self._seconds:,.0f} s in all"
            )


@dataclass(kw_only=True, slots=True)
class _Pause:
    since: float
    told: WaitReason | None = None
    """What was told of it last."""
    counts: bool = False
    """A wait that was to be expected, and was too short to be told, is none."""
