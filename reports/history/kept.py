"""Keeps the history of a run: tells its trend and adds what it measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.history import history
from reports.history.trend import Trend, trend_of

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from checks.examination.run_context import RunContext


def keep(
    context: RunContext, directory: Path, *, run_id: str, at: datetime, again: datetime | None
) -> Trend | None:
    """The trend of the run's first look, once it is in the history; None where it has none.

    `again` is when the tables were measured once more after a repair. Raises OSError, after which
    nothing is known of the trend.
    """
    if not history.comparable(context.before):
        return None
    now = history.measured(context.before, run_id=run_id, at=at)
    if not now.checks:
        return None
    trend = trend_of(history.earlier(directory), now)
    history.append(directory, now)
    if again is not None:
        after = history.measured(context.examination, run_id=run_id, at=again, after=True)
        history.append(directory, after)
    return trend
