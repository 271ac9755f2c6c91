"""Lists what happened when, from the first damaged row to the proof of the repair.

Plain text and times for every form of the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reports.values.incident import Result

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from reports.values.incident import Incident

PLAN, SECOND_PASS = "plan: ", "second pass of the checks"
"""How the repair's own notes of these moments begin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """A point of the timeline."""

    what: str
    time: datetime
    about: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Happened:
    """The moments in their order, and how long it took to notice and to mend."""

    moments: tuple[Moment, ...]
    to_detect: timedelta | None
    to_repair: timedelta | None


def happened(incident: Incident) -> Happened:
    """The timeline of an incident; what is not known is left out."""
    found = list(_moments(incident))
    known = {moment.what: moment.time for moment in found}
    onset, detected = known.get("Onset"), known.get("Detected")
    verified = known.get("Verified")
    whole = incident.result in (Result.WHOLE, Result.PARTLY)
    return Happened(
        moments=tuple(sorted(found, key=lambda moment: moment.time)),
        to_detect=detected - onset if onset and detected and detected > onset else None,
        to_repair=verified - detected if verified and detected and whole else None,
    )


def _moments(incident: Incident) -> Iterator[Moment]:
    yield from _damage(incident)
    trend = incident.trend
    if trend is not None and trend.last_green is not None:
        yield Moment(what="Last green run", time=trend.last_green, about="every check held")
    if incident.failing_before.rows or incident.findings_before:
        first = trend.first_red if trend is not None else None
        if first is not None and first < incident.started_at:
            yield Moment(what="Detected", time=first, about="the first red run of the history")
            yield Moment(what="This run", time=incident.started_at, about="the checks fail again")
        else:
            yield Moment(what="Detected", time=incident.started_at, about="this run of the checks")
    for event in incident.timeline if incident.repair is not None else ():
        if event.text.startswith(PLAN):
            about = event.text.removeprefix(PLAN)
            yield Moment(what="Repair begins", time=event.time, about=about)
        elif event.text == SECOND_PASS:
            yield Moment(what="Repair ends", time=event.time)
    if any(table.re_examined for table in incident.tables):
        about = "the same checks again"
        yield Moment(what="Verified", time=incident.finished_at, about=about)


def _damage(incident: Incident) -> Iterator[Moment]:
    """When failing rows were created: in the windows of the diagnosis, else all of them."""
    tables = incident.diagnosis.tables if incident.diagnosis is not None else ()
    windows = [(t.first, t.last, t.table, t.in_window) for t in tables if t.first and t.last]
    if windows:
        first, last, table, rows = max(windows, key=lambda window: window[3])
        green = incident.trend.last_green if incident.trend is not None else None
        about = f"the first of {rows:,} failing rows of {table} in the window below was created"
        if green is None or green <= last:
            yield Moment(what="Onset", time=first, about=about)
            yield Moment(what="End of the damage", time=last, about="the last of them")
        else:
            # When rows were created says nothing of when they were damaged.
            yield Moment(what="First failing row", time=first, about=about)
            about = "the last of them; every check still held in a run after that"
            yield Moment(what="Last failing row", time=last, about=about)
        return
    times = [
        time if time.tzinfo else time.replace(tzinfo=UTC)
        for table in incident.tables
        for segment in table.affected
        for time in (segment.first, segment.last)
        if time is not None
    ]
    if times:
        about = "failing row was created; no stretch of time stands out"
        yield Moment(what="First failing row", time=min(times), about=f"the oldest {about}")
        yield Moment(what="Last failing row", time=max(times), about="the newest one")
