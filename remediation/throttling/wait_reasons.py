"""Judges whether a repair must wait for standbys, write-ahead log or keys, and says why.

Decides on values alone; asks no server.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitReason:
    """The reason for a pause, in words."""

    reason: str
    expected: bool = False
    """Nothing is wrong as far as is known: a limit is kept, or what it needs is being measured."""


def keys_must_wait(seconds: float) -> WaitReason:
    """Every key that is needed has to wait for so long."""
    return WaitReason(
        reason=f"every key that is needed has to wait, the first for {seconds:,.0f} s (its provider"
        " asks for it or gave no usable answer, or requests_per_minute or tokens_per_minute of"
        " [repair] is reached)",
        expected=True,
    )


SAMPLES = 1_000
SAMPLES_PER_LIMIT = 200
"""Samples are kept this far apart at least: together they reach five times the limit back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standby:
    """One standby as its primary sees it; positions are bytes of write-ahead log from its start."""

    pid: int
    name: str
    replayed: int
    reported_lag: float | None
    """Seconds that the last replayed record took to be replayed; None where it says nothing."""


@dataclass(kw_only=True, slots=True)
class ReplicationLag:
    """The lag of every standby, from samples of what had been written by when."""

    limit: timedelta
    _samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    """Times of a monotonic clock, and how far the log was written by then."""
    _first_replayed: dict[int, int] = field(default_factory=dict)
    """By the pid of a standby's sender: how far it had replayed when it was first seen."""

    def judge(self, now: float, written: int, standbys: tuple[Standby, ...]) -> WaitReason | None:
        """Why the repair must wait for a standby, or None."""
        self._sample(now, written)
        self._first_replayed = {
            standby.pid: self._first_replayed.get(standby.pid, standby.replayed)
            for standby in standbys
        }
        holds = [self._judge_one(now, standby) for standby in standbys]
        # One that is known to be behind says more than one of which nothing is known yet.
        return min(filter(None, holds), key=lambda hold: hold.expected, default=None)

    def _sample(self, now: float, written: int) -> None:
        spacing = self.limit.total_seconds() / SAMPLES_PER_LIMIT
        if not self._samples or now - self._samples[-1][0] >= spacing:
            self._samples.append((now, written))

    def _judge_one(self, now: float, standby: Standby) -> WaitReason | None:
        missed = next((at for at, written in self._samples if written > standby.replayed), None)
        if missed is None:
            return None
        limit = self.limit.total_seconds()
        age = now - missed
        # What it reported is of the last record that it replayed: true only while it replays.
        moves = standby.replayed > self._first_replayed[standby.pid]
        lag = max(age, standby.reported_lag or 0.0) if moves else age
        if lag > limit:
            return WaitReason(
                reason=f"standby {standby.name!r} is {lag:,.1f} s behind, more than {limit:,g} s"
                " ([repair] max_replication_lag)"
            )
        if missed == self._samples[0][0] and (not moves or standby.reported_lag is None):
            # It may have been behind before we looked for the first time.
            return WaitReason(
                reason=f"it is not known yet how far standby {standby.name!r} is behind",
                expected=True,
            )
        return None


MEGABYTE = 1024**2


@dataclass(kw_only=True, slots=True)
class WalRate:
    """The rate of the whole server, whoever writes; over the time between two readings."""

    limit: int
    """Bytes per second."""
    _last: tuple[float, int] | None = None

    def judge(self, now: float, written: int) -> WaitReason | None:
        """Why the repair must wait, or None. `now` is of a monotonic clock, `written` in bytes."""
        last, self._last = self._last, (now, written)
        if last is None or now <= last[0]:
            return WaitReason(reason="the rate of write-ahead log is not known yet", expected=True)
        rate = (written - last[1]) / (now - last[0])
        if rate <= self.limit:
            return None
        return WaitReason(
            reason=f"the server writes {rate / MEGABYTE:,.1f} MB of write-ahead log per second,"
            f" more than {self.limit / MEGABYTE:,.4g} MB ([repair] max_wal_rate)"
        )

    def forget(self) -> None:
        """Begin anew: a rate over a time in which nothing was read says nothing of now."""
        self._last = None
