"""Defines what a report says of causes: evidence by table, and how failing rows lie in time."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from checks.diagnosis import facets as by
from checks.diagnosis.diagnosis import weighed
from checks.diagnosis.failing_keys import FIRST
from reports.values.tables import RedactedText, ReportValue, UtcTime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from checks.diagnosis.diagnosis import Diagnosis
    from checks.diagnosis.facets import Count
    from checks.diagnosis.window import Window

BARS = 96
"""The most stretches of time that a histogram has: four days of hours."""

Unit = Literal["hour", "day", "month"]


class ReportedEvidence(ReportValue):
    """One thing that was counted. `migration`: which way it points if one is suspected."""

    topic: RedactedText
    says: RedactedText
    migration: Literal["for", "against"] | None = None


class TimeCount(ReportValue):
    """The failing rows that were created in one stretch of time, by its beginning."""

    begins: UtcTime
    failing: NonNegativeInt


class DiagnosedTable(ReportValue):
    """What the failing rows of a table have in common; `missing` says why nothing is known."""

    table: RedactedText
    rows: NonNegativeInt = 0
    failing: NonNegativeInt = 0
    missing: RedactedText | None = None
    first: UtcTime | None = None
    last: UtcTime | None = None
    """The window that tells failing rows from others; None where there is none."""
    in_window: NonNegativeInt = 0
    evidence: tuple[ReportedEvidence, ...] = ()
    unit: Unit = "day"
    times: tuple[TimeCount, ...] = ()
    """How many failing rows were created when, around the window where there is one."""

    keys: Annotated[tuple[RedactedText, ...], Field(max_length=FIRST)] = ()
    """Keys of failing rows, as PostgreSQL writes a row of their columns; some of them."""
    listed: NonNegativeInt = 0
    """How many of them `failing-keys.jsonl` has, beside the report."""
    seconds: NonNegativeFloat = 0.0
    """What the statements of the diagnosis took."""


class ReportedDiagnosis(ReportValue):
    """The evidence of all tables."""

    migration: RedactedText | None = None
    """Whether one statement did it to stored rows, as far as what was counted goes."""
    tables: tuple[DiagnosedTable, ...] = ()


def diagnosis_of(diagnoses: Mapping[str, Diagnosis]) -> ReportedDiagnosis | None:
    """The diagnoses of a run; None where there are none."""
    if not diagnoses:
        return None
    return ReportedDiagnosis(
        migration=weighed(diagnoses),
        tables=tuple(_table(name, one) for name, one in diagnoses.items()),
    )


def _table(name: str, one: Diagnosis) -> DiagnosedTable:
    unit, times = histogram(one.found.hit(by.HOUR), one.window)
    return DiagnosedTable(
        table=name,
        rows=one.found.rows,
        failing=one.found.failing,
        seconds=one.seconds,
        missing=one.missing,
        first=None if one.window is None else one.window.first,
        last=None if one.window is None else one.window.last,
        in_window=0 if one.window is None else one.window.failing,
        evidence=tuple(
            ReportedEvidence(topic=piece.topic, says=piece.says, migration=piece.migration)
            for piece in one.evidence
        ),
        unit=unit,
        times=times,
        keys=() if one.keys is None else tuple(one.keys.first),
        listed=0 if one.keys is None else one.keys.listed,
    )


def histogram(hours: Sequence[Count], window: Window | None) -> tuple[Unit, tuple[TimeCount, ...]]:
    """Failing rows by hour, day or month, the finest that needs no more than `BARS` bars.

    Around the window where there is one: what lies far from it would hide its shape.
    """
    counts = {
        datetime.fromtimestamp(int(hour.value) * 3600, UTC): hour.failing
        for hour in hours
        if hour.value is not None
    }
    if window is not None:
        margin = max(timedelta(hours=2), window.length / 4)
        counts = {
            time: count
            for time, count in counts.items()
            if window.first - margin <= time <= window.last + margin
        }
    if not counts:
        return "day", ()
    span = max(counts) - min(counts)
    unit: Unit = "month"
    if span < timedelta(days=BARS):
        unit = "hour" if span < timedelta(hours=BARS) else "day"
    binned: Counter[datetime] = Counter()
    for time, count in counts.items():
        binned[_begins(time, unit)] += count
    return unit, tuple(TimeCount(begins=time, failing=binned[time]) for time in sorted(binned))


def _begins(time: datetime, unit: Unit) -> datetime:
    if unit == "hour":
        return time
    return time.replace(hour=0) if unit == "day" else time.replace(day=1, hour=0)
