"""Scans tables, each in a short transaction of its own, and has their suites judge them.

What PostgreSQL or the engine refuses becomes the table's error, never a verdict.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import psycopg

from checks.database.connection import TRANSIENT, read_only, reason_of
from checks.examination.acceptance import today_in_utc
from checks.examination.engine import SuiteError, loading_beside
from checks.examination.gaps import asked_of_gaps
from checks.examination.measurements import Threshold
from checks.examination.scan import scan
from checks.examination.suites import Asked, entry_of, judge
from checks.examination.table_examination import TableExamination
from checks.row_checks.applied import applied_checks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, timedelta

    from checks.database.connection import Connection, ConnectionTarget
    from checks.examination.measurements import Verdict
    from checks.examination.scan import Scan
    from checks.row_checks.row_check import AppliedCheck
    from checks.targets.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class Scanned:
    """A target that was scanned, and is not judged yet."""

    target: Target
    checks: tuple[AppliedCheck, ...]
    scan: Scan

    @property
    def asked(self) -> tuple[Asked, ...]:
        """What the suites are asked: of the rows first, then of each gap."""
        of_rows = Asked(
            table=self.target.name,
            entry=entry_of(self.target),
            counts=self.scan.measurements,
            thresholds=tuple(
                Threshold(check=check.name, min=check.min, severity=check.severity, says=check.says)
                for check in self.checks
            ),
            segments_seen=self.scan.segments_seen,
        )
        return (of_rows, *asked_of_gaps(self.target, self.scan.gaps))


def examine_target(
    connection: Connection,
    place: ConnectionTarget,
    target: Target,
    *,
    timeout: timedelta,
    tenants: tuple[str, ...] | None,
) -> TableExamination:
    """Scan and judge one target; what PostgreSQL refuses becomes the table's error."""
    (table,) = examine_targets(connection, place, [target], timeout=timeout, tenants=tenants)
    return table


def examine_targets(
    connection: Connection,
    place: ConnectionTarget,
    targets: Sequence[Target],
    *,
    timeout: timedelta,
    tenants: tuple[str, ...] | None,
    today: date | None = None,
) -> tuple[TableExamination, ...]:
    """Scan and judge targets, in their order; `today` None: the day it is in UTC.

    The tables of one declaration are judged together: a validation costs the same for one segment
    as for thousands.
    """
    day = today_in_utc() if today is None else today
    results: dict[int, TableExamination] = {}
    scanned: dict[int, Scanned] = {}
    with loading_beside() if any(target.scannable for target in targets) else nullcontext():
        for position, target in enumerate(targets):
            if not target.scannable:
                results[position] = TableExamination(target=target, today=day)
                continue
            checks = applied_checks(target)
            try:
                seen = _scan(connection, place, target, checks, timeout=timeout, tenants=tenants)
            except psycopg.Error as error:
                results[position] = _unmeasured(target, checks, error, tenants=tenants, today=day)
            else:
                scanned[position] = Scanned(target=target, checks=checks, scan=seen)
    results |= _judged(scanned, tenants=tenants, today=day)
    return tuple(results[position] for position in range(len(targets)))


def _judged(
    scanned: dict[int, Scanned], *, tenants: tuple[str, ...] | None, today: date
) -> dict[int, TableExamination]:
    """The examinations of what was scanned, by position."""
    asked = {position: one.asked for position, one in scanned.items()}
    answers = iter(judge([one for of_table in asked.values() for one in of_table]))
    results: dict[int, TableExamination] = {}
    for position, one in scanned.items():
        verdicts: list[tuple[Verdict, ...]] = []
        errors: list[SuiteError] = []
        for answer in islice(answers, len(asked[position])):
            if isinstance(answer, SuiteError):
                errors.append(answer)
            else:
                verdicts.append(answer)
        if errors:
            results[position] = _unmeasured(
                one.target, one.checks, errors[0], tenants=tenants, today=today
            )
            continue
        of_rows, *of_gaps = verdicts
        results[position] = TableExamination(
            target=one.target,
            checks=one.checks,
            measurements=one.scan.measurements,
            gaps=one.scan.gaps,
            verdicts=of_rows,
            gap_verdicts=tuple(verdict for of_gap in of_gaps for verdict in of_gap),
            asked=asked[position],
            tenants=tenants,
            today=today,
        )
    return results


def _unmeasured(
    target: Target,
    checks: tuple[AppliedCheck, ...],
    error: psycopg.Error | SuiteError,
    *,
    tenants: tuple[str, ...] | None,
    today: date,
) -> TableExamination:
    reason = reason_of(error) if isinstance(error, psycopg.Error) else str(error)
    return TableExamination(
        target=target,
        checks=checks,
        tenants=tenants,
        error=f"{target.name} could not be measured: {reason}",
        today=today,
    )


def _scan(
    connection: Connection,
    place: ConnectionTarget,
    target: Target,
    checks: Sequence[AppliedCheck],
    *,
    timeout: timedelta,
    tenants: Sequence[str] | None,
) -> Scan:
    for last_try in (False, True):
        try:
            with read_only(
                connection,
                place,
                statement_timeout=timeout,
                row_security=target.row_security,
            ):
                return scan(connection, target, checks, tenants=tenants)
        except TRANSIENT:
            if last_try:
                raise
    raise AssertionError("unreachable: the second try returns or raises")
