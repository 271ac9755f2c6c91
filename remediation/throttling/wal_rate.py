"""How fast the server writes its write-ahead log, from two readings. Asks no server."""

from __future__ import annotations

from dataclasses import dataclass

from remediation.throttling.hold import Hold

MEGABYTE = 1024**2


@dataclass(kw_only=True, slots=True)
class WalRate:
    """The rate of the whole server, whoever writes; over the time between two readings."""

    limit: int
    """Bytes per second."""
    _last: tuple[float, int] | None = None

    def judge(self, now: float, written: int) -> Hold | None:
        """Why the repair must wait, or None. `now` is of a monotonic clock, `written` in bytes."""
        last, self._last = self._last, (now, written)
        if last is None or now <= last[0]:
            return Hold(reason="the rate of write-ahead log is not known yet", expected=True)
        rate = (written - last[1]) / (now - last[0])
        if rate <= self.limit:
            return None
        return Hold(
            reason=f"the server writes {rate / MEGABYTE:,.1f} MB of write-ahead log per second,"
            f" more than {self.limit / MEGABYTE:,.4g} MB ([repair] max_wal_rate)"
        )

    def forget(self) -> None:
        """Begin anew: a rate over a time in which nothing was read says nothing of now."""
        self._last = None
