"""Has suites judge what canaries counted of their samples, and attaches the verdicts.

A segment that could not be looked at is no data. Values only; each canary words its own verdicts.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from checks.expectations.engine import SuiteError
from checks.expectations.measurements import Segment, Threshold, Verdict
from checks.expectations.suites import Asked, Counts, entry_of, judge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from checks.examination.table_examination import TableExamination
    from checks.targets.target import Target

SampleCounts = tuple[int, int]
"""How many rows of a segment were looked at, and how many of these fail."""


def threshold_of(target: Target, canary: str, *, says: str) -> Threshold:
    """What the settings ask of a canary: the share of each sample that must hold, 1 by default."""
    settings = target.declared.check_settings(canary)
    return Threshold(
        check=canary,
        min=Decimal(1) if settings.min is None else settings.min,
        severity=settings.severity,
        says=says,
    )


def asked_of_samples(
    target: Target, threshold: Threshold, samples: Mapping[str | None, SampleCounts], *, unseen: int
) -> Asked:
    """What a suite is asked of a table's samples; `unseen` segments could not be looked at."""
    return Asked(
        table=target.name,
        entry=entry_of(target),
        about=threshold.check,
        counts=tuple(
            Counts(
                segment=Segment(table=target.name, tenant=tenant),
                rows=rows,
                failing={threshold.check: failing},
            )
            for tenant, (rows, failing) in samples.items()
        ),
        thresholds=(threshold,),
        segments_seen=len(samples),
        unseen=unseen,
    )


def verdicts_of(asked: Sequence[Asked]) -> list[dict[str | None, Verdict]]:
    """For each, its verdicts by tenant; none where its suite could not decide."""
    return [
        {
            one.segment.tenant: Verdict.not_seen(question.about, one.segment, str(answer))
            for one in question.counts
        }
        if isinstance(answer, SuiteError)
        else {verdict.segment.tenant: verdict for verdict in answer}
        for question, answer in zip(asked, judge(asked), strict=True)
    ]


def with_verdicts(
    table: TableExamination, canary: str, verdicts: Sequence[Verdict], asked: Sequence[Asked]
) -> TableExamination:
    """The examination with a canary's verdicts, in place of those of an earlier look."""
    again = {question.about for question in asked}
    return replace(
        table,
        verdicts=(*(v for v in table.verdicts if v.check != canary), *verdicts),
        asked=(*(q for q in table.asked if q.about not in again), *asked),
    )
