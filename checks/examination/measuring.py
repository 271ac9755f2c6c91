"""Tables scanned, each in a short transaction of its own, and judged by their declaration's suite.

What PostgreSQL or the engine refuses becomes the table's error, never a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from checks.database.connection import TRANSIENT, read_only, reason_of
from checks.examination import suites
from checks.examination.acceptance import today_in_utc
from checks.examination.measurements import Threshold
from checks.examination.scan import scan
from checks.examination.table_examination import TableExamination
from checks.row_checks.applied import applied_checks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, timedelta

    from checks.database.connection import Connection, ConnectionTarget
    from checks.examination.measurements import Verdict
    from checks.examination.scan import Scan
    from checks.row_checks.row_check import AppliedCheck
    from checks.settings.names import TableName
    from checks.targets.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class Scanned:
    """A target that was scanned, and is not judged yet."""

    target: Target
    checks: tuple[AppliedCheck, ...]
    scan: Scan


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
    groups: dict[tuple[TableName, tuple[str, ...]], dict[int, Scanned]] = {}
    for position, target in enumerate(targets):
        if not target.scannable:
            results[position] = TableExamination(target=target, today=day)
            continue
        checks = applied_checks(target)
        try:
            seen = _scan(connection, place, target, checks, timeout=timeout, tenants=tenants)
            if len(seen.measurements) != seen.segments_seen:
                # Within the sum over many tables, one too many would hide one too few.
                raise suites.SuiteError(
                    f"expected a measurement of each of the {seen.segments_seen} segments seen,"
                    f" found {len(seen.measurements)}: run the checks again"
                )
        except (psycopg.Error, suites.SuiteError) as error:
            results[position] = _unmeasured(target, checks, error, tenants=tenants, today=day)
            continue
        kind = (target.declared.name, tuple(check.name for check in checks))
        scanned = Scanned(target=target, checks=checks, scan=seen)
        groups.setdefault(kind, {})[position] = scanned
    for group in groups.values():
        results |= _judged(group, tenants=tenants, today=day)
    return tuple(results[position] for position in range(len(targets)))


def _judged(
    group: Mapping[int, Scanned], *, tenants: tuple[str, ...] | None, today: date
) -> dict[int, TableExamination]:
    """The examinations of tables that one declaration asks the same of."""
    first = next(iter(group.values()))
    thresholds = [
        Threshold(check=check.name, min=check.min, severity=check.severity)
        for check in first.checks
    ]
    alone = len(group) == 1
    try:
        verdicts = suites.validate(
            first.target.name if alone else str(first.target.declared.name),
            [measurement for one in group.values() for measurement in one.scan.measurements],
            thresholds,
            segments_seen=sum(one.scan.segments_seen for one in group.values()),
        )
    except suites.SuiteError as error:
        return {
            position: _unmeasured(one.target, one.checks, error, tenants=tenants, today=today)
            for position, one in group.items()
        }
    by_table: dict[str, list[Verdict]] = {one.target.name: [] for one in group.values()}
    for verdict in verdicts:
        by_table[verdict.segment.table].append(verdict)
    return {
        position: TableExamination(
            target=one.target,
            checks=one.checks,
            measurements=one.scan.measurements,
            gaps=one.scan.gaps,
            verdicts=tuple(by_table[one.target.name]),
            tenants=tenants,
            today=today,
        )
        for position, one in group.items()
    }


def _unmeasured(
    target: Target,
    checks: tuple[AppliedCheck, ...],
    error: psycopg.Error | suites.SuiteError,
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
