"""Reads and writes `history.jsonl` beside the reports: a line for what each run measured.

A history that cannot be read or written is told, and ends no run.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pydantic import ValidationError

from checks.settings.check_names import CANARIES
from reports.values.trend import SHOWN, Measured, MeasuredRun, trend_of

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from checks.examination.examination import Examination
    from checks.examination.run_context import RunContext
    from reports.values.trend import Trend

NAME = "history.jsonl"
TAIL = 8 * 1024 * 1024
"""Bytes at the end of the file that are read."""


def keep(
    context: RunContext, directory: Path, *, run_id: str, at: datetime, again: datetime | None
) -> Trend | None:
    """The trend of the run's first look, once it is in the history; None where it has none.

    `again` is when the tables were measured once more after a repair. Raises OSError, after which
    nothing is known of the trend.
    """
    if not comparable(context.before):
        return None
    now = measured(context.before, run_id=run_id, at=at)
    if not now.checks:
        return None
    trend = trend_of(earlier(directory), now)
    append(directory, now)
    if again is not None:
        after = measured(context.examination, run_id=run_id, at=again, after=True)
        append(directory, after)
    return trend


def measured(
    examination: Examination, *, run_id: str, at: datetime, after: bool = False
) -> MeasuredRun:
    """What an examination measured, by table and check, all tenants together.

    Of a sample nothing is kept: its failing rows are no share of all.
    """
    checks = []
    for table in examination.tables:
        if not table.measured:
            continue
        open_checks = {
            f.check for f in table.findings if f.accepted is None and f.severity == "error"
        }
        checks += [
            Measured(
                table=table.target.name,
                check=check.name,
                rows=max(table.rows, table.failing(check.name)),
                failing=table.failing(check.name),
                holds=check.name not in open_checks,
            )
            for check in table.checks
            if check.name not in (*table.part.sampled, *CANARIES)
        ]
    return MeasuredRun(run_id=run_id, at=at, after=after, checks=tuple(checks))


def comparable(examination: Examination) -> bool:
    """Whether every row of every table was looked at: what was selected has no trend."""
    return not (
        examination.restricted
        or examination.partial
        or any(t.part.changed_since or t.part.sample for t in examination.tables)
    )


def earlier(directory: Path) -> tuple[MeasuredRun, ...]:
    """The last runs of the history, the oldest first; lines that cannot be read are passed over.

    Raises OSError, but for a history that is not there.
    """
    try:
        with open(directory / NAME, "rb", opener=_opened) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return ()
    runs = []
    for line in lines[-2 * SHOWN :]:
        try:
            runs.append(MeasuredRun.model_validate_json(line))
        except ValidationError:
            continue
    return tuple(runs)


def append(directory: Path, run: MeasuredRun) -> None:
    """Add a line in one write, which runs beside each other cannot mix. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    line = run.model_dump_json().encode() + b"\n"
    descriptor = _opened(str(directory / NAME), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def _opened(path: str, flags: int) -> int:
    """A descriptor of the file. Raises OSError also for a link or a pipe of somebody else's, who
    may write to the folder too.
    """
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
