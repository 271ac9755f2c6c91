"""Writes how often a sweep comes as the queue's periodic jobs want it: a cron line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta


def cron_of(every: timedelta) -> str:
    """The cron line, with seconds last, of a sweep every so often.

    Raises ValueError for what does not divide a minute, an hour or a day.
    """
    seconds = int(every.total_seconds())
    for unit, parts, line in (
        (1, 60, "* * * * * */{}"),
        (60, 60, "*/{} * * * * 0"),
        (3600, 24, "0 */{} * * * 0"),
    ):
        count, rest = divmod(seconds, unit)
        if not rest and 0 < count < parts and parts % count == 0:
            return line.format(count)
    if seconds == 24 * 3600:
        return "0 0 * * * 0"
    raise ValueError(
        "expected what divides a minute, an hour or a day, such as '30 seconds', '5 minutes' or"
        f" '6 hours', found {seconds:,} seconds"
    )
