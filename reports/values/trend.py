"""Defines the trend: what earlier runs measured, and what has changed against them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import NonNegativeInt

from reports.values.tables import RedactedText, ReportValue, UtcTime

if TYPE_CHECKING:
    from collections.abc import Sequence

COMPARED = 5
"""The earlier runs whose lowest coverage a run is held against."""
SHOWN = 60
"""The runs that a trend holds, this one included."""


class Measured(ReportValue):
    """One check in one table, as one run measured it. `holds`: no error by its threshold."""

    table: RedactedText
    check: RedactedText
    rows: NonNegativeInt
    failing: NonNegativeInt
    holds: bool

    @property
    def coverage(self) -> float:
        """The share of rows that hold, 0 to 1; an empty table lacks nothing."""
        return 1 - self.failing / self.rows if self.rows else 1.0


class MeasuredRun(ReportValue):
    """A line of the history. `after`: measured after the run's own repair."""

    version: int = 1
    run_id: RedactedText
    at: UtcTime
    after: bool = False
    checks: tuple[Measured, ...]

    @property
    def green(self) -> bool:
        return all(one.holds for one in self.checks)

    @property
    def coverage(self) -> float:
        """The lowest coverage of any check in any table."""
        return min((one.coverage for one in self.checks), default=1.0)

    def of(self, table: str, check: str) -> Measured | None:
        return next((o for o in self.checks if (o.table, o.check) == (table, check)), None)


class Fall(ReportValue):
    """A coverage that is lower than in each of the last runs."""

    table: RedactedText
    check: RedactedText
    now: float
    lowest: float
    """The lowest of the runs it is compared with."""
    runs: NonNegativeInt
    holds: bool
    """Whether the check holds all the same."""

    @property
    def says(self) -> str:
        still = ", while its threshold still holds" if self.holds else ""
        times = "the last run" if self.runs == 1 else f"each of the last {self.runs} runs"
        least = "" if self.runs == 1 or self.lowest == 1 else "at least "
        return (
            f"coverage of {self.check} in {self.table} fell to {percent(self.now)}; in {times} it"
            f" was {least}{percent(self.lowest)}{still}"
        )


class Trend(ReportValue):
    """What earlier runs saw, the oldest first; the run itself is the last of `runs`."""

    runs: tuple[MeasuredRun, ...] = ()
    falls: tuple[Fall, ...] = ()
    last_green: UtcTime | None = None
    """The last run before this one in which every check held."""
    first_red: UtcTime | None = None
    """The first run after it in which one did not; this one, where none was before."""


def trend_of(earlier: Sequence[MeasuredRun], now: MeasuredRun) -> Trend:
    """The trend of a run's first look; a check is held against runs that measured it too."""
    runs = (*earlier, now)
    red = [run for run in runs if not run.green]
    green = [run for run in earlier if run.green]
    last_green = green[-1].at if green else None
    since = [run.at for run in red if last_green is None or run.at > last_green]
    falls = []
    for one in now.checks:
        before = [m for run in earlier if (m := run.of(one.table, one.check)) is not None]
        lowest = min((m.coverage for m in before[-COMPARED:]), default=0.0)
        if one.coverage < lowest:
            falls.append(
                Fall(
                    table=one.table,
                    check=one.check,
                    now=one.coverage,
                    lowest=lowest,
                    runs=len(before[-COMPARED:]),
                    holds=one.holds,
                )
            )
    return Trend(
        runs=runs[-SHOWN:],
        falls=tuple(falls),
        last_green=last_green,
        first_red=since[0] if since and not now.green else None,
    )


def percent(share: float) -> str:
    """A coverage with as many decimals as tell it from 100 %."""
    for places in range(1, 6):
        shown = f"{100 * share:.{places}f}"
        if share == 1 or float(shown) < 100:
            return f"{shown.rstrip('0').rstrip('.')}%"
    return "under 100%"
