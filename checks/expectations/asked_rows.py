"""Says what the suites are asked about a table's rows: of all that were counted, and of a sample.

Values only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from checks.expectations.measurements import Threshold
from checks.expectations.suites import Asked, Counts, entry_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from checks.expectations.measurements import Measurement
    from checks.row_checks.row_check import AppliedCheck
    from checks.targets.target import Target


def asked_of_rows(
    target: Target,
    checks: Sequence[AppliedCheck],
    measurements: Sequence[Measurement],
    *,
    sampled: Collection[str],
    segments_seen: int,
) -> tuple[Asked, ...]:
    """A question about the checks of all rows, and one about the `sampled` checks if there are any.

    A sampled check is held against the rows of the sample, as if there were no others; a segment of
    which no row was sampled is not asked about.
    """
    thresholds = [
        Threshold(check=check.name, min=check.min, severity=check.severity, says=check.says)
        for check in checks
    ]
    of_all = Asked(
        table=target.name,
        entry=entry_of(target),
        counts=tuple(measurements),
        thresholds=tuple(thresholds),
        segments_seen=segments_seen,
    )
    if not sampled:
        return (of_all,)
    counts = [
        Counts(
            segment=one.segment,
            rows=one.rows,
            failing={name: n for name, n in one.failing.items() if name not in sampled},
        )
        for one in measurements
    ]
    of_sample = [
        Counts(
            segment=one.segment,
            rows=one.sampled,
            failing={name: n for name, n in one.failing.items() if name in sampled},
        )
        for one in measurements
        if one.sampled
    ]
    return (
        replace(
            of_all,
            counts=tuple(counts),
            thresholds=tuple(one for one in thresholds if one.check not in sampled),
        ),
        replace(
            of_all,
            about="sample",
            counts=tuple(of_sample),
            thresholds=tuple(one for one in thresholds if one.check in sampled),
            segments_seen=len(of_sample),
        ),
    )
