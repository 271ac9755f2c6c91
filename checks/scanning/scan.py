"""Scans a table once: every row check counted for every tenant in one statement.

Runs inside the caller's read-only transaction and decides nothing about pass or fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from checks.expectations.measurements import NOTHING_UNLISTED, Measurement, Segment
from checks.scanning.estimates import estimates_of, unlisted_of
from checks.scanning.gaps import count_gaps
from checks.scanning.index_advice import index_advice
from checks.scanning.model_samples import mixed_segments
from checks.scanning.part import WHOLE
from checks.scanning.scan_statement import COUNTS, compile_scan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from checks.database.connection import Connection
    from checks.expectations.measurements import Unlisted
    from checks.row_checks.row_check import AppliedCheck
    from checks.scanning.gaps import Gap
    from checks.scanning.model_samples import MixedSegment
    from checks.scanning.part import Part
    from checks.targets.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """A measurement per segment, and the number of segments as the server counted them."""

    measurements: tuple[Measurement, ...]
    segments_seen: int
    gaps: tuple[Gap, ...] = ()
    """Gaps in the tables beside this one; not looked for where only some tenants are selected."""
    unlisted: Unlisted = NOTHING_UNLISTED
    mixed: tuple[MixedSegment, ...] = ()
    """Segments whose vectors look like those of two models."""
    index_advice: tuple[str, ...] = ()
    """The CREATE INDEX that would spare most of the reading."""


def scan(
    connection: Connection,
    target: Target,
    checks: Sequence[AppliedCheck],
    *,
    tenants: Sequence[str] | None = None,
    part: Part = WHOLE,
    earlier: Sequence[AppliedCheck] = (),
    later: Sequence[AppliedCheck] = (),
) -> Scan:
    """Measure every segment of a target, as far as the part goes. Raises psycopg's errors.

    `earlier` and `later`: see `compile_scan`.
    """
    statement = compile_scan(
        target, checks, tenants=tenants, part=part, earlier=earlier, later=later
    )
    rows = connection.execute(statement).fetchall()
    gaps = count_gaps(connection, target) if tenants is None and part.whole else ()
    estimates = estimates_of(connection, target) if part.failing_only else None
    names = [check.name for check in checks]
    # Most of many thousand segments are whole: they share their mappings.
    known: dict[tuple[Any, ...], Mapping[str, Any]] = {}

    def by_check(values: tuple[Any, ...]) -> Mapping[str, Any]:
        if values not in known:
            known[values] = dict(zip(names, values, strict=True))
        return known[values]

    def measured(
        tenant: str | None,
        total: int,
        not_embeddable: int,
        pending: int,
        sampled: int | None,
        affected: int,
        *counts: Any,
    ) -> Measurement:
        estimated = None if estimates is None else estimates.rows_of(tenant)
        return Measurement(
            segment=Segment(table=target.name, tenant=tenant),
            rows=max(total, estimated or 0),
            uncounted=None if estimates is None else "at least" if estimated is None else "about",
            not_embeddable=not_embeddable,
            pending=pending,
            sampled=sampled,
            affected=affected,
            failing=by_check(counts[0::COUNTS]),
            first=by_check(counts[1::COUNTS]),
            last=by_check(counts[2::COUNTS]),
            found={
                name: tuple(dict.fromkeys(values))
                for name, *values in zip(names, counts[3::COUNTS], counts[4::COUNTS], strict=True)
                if None not in values
            },
        )

    measurements = tuple(measured(*row) for _, *row in rows)
    # Where vectors are compared anyway; who switched that off wants none to be read.
    compared = part.whole and any(check.rule_of_sets is not None for check in checks)
    return Scan(
        measurements=measurements,
        segments_seen=rows[0][0] if rows else 0,
        gaps=gaps,
        unlisted=NOTHING_UNLISTED
        if part.whole
        else unlisted_of(connection, target, estimates, tenants=tenants, seen=bool(rows)),
        mixed=mixed_segments(connection, target, measurements) if compared else (),
        index_advice=index_advice(connection, target, checks, measurements, part, statement),
    )
