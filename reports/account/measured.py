"""Collects what the checks saw, before the run wrote and after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checks.scanning.scan_statement import compile_scan
from checks.settings.check_names import CANARIES
from reports.values import incident as values
from reports.values.tables import SegmentCounts, TableReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checks.examination.examination import Examination
    from checks.examination.table_examination import TableExamination
    from checks.expectations.measurements import Measurement
    from checks.findings.finding import Finding
    from remediation.run.repair_run import RepairRun


SCANS_TOLD = 5
"""Scans whose statement a report holds: those that took longest."""


def tables_of(
    before: Examination, after: Examination | None, run: RepairRun
) -> tuple[TableReport, ...]:
    """Every table that is there; `after` is None where nothing was measured again."""
    measured = [table for table in before.tables if table.measured]
    slowest = sorted(measured, key=lambda table: -table.seconds)[:SCANS_TOLD]
    statements = {table.target.name: _scan_of(table) for table in slowest}
    return tuple(
        _table(
            table,
            None if after is None else after.table(table.target.name),
            run,
            scan_sql=statements.get(table.target.name),
        )
        for table in before.tables
        if not table.target.absent
    )


def _scan_of(table: TableExamination) -> str:
    checks = [check for check in table.checks if check.name not in CANARIES]
    statement = compile_scan(table.target, checks, tenants=table.tenants, part=table.part)
    return statement.as_string(None).strip()


def absent_of(before: Examination) -> tuple[str, ...]:
    """Declared tables that are not there and need not be."""
    return tuple(table.target.name for table in before.tables if table.target.absent)


def _table(
    before: TableExamination,
    after: TableExamination | None,
    run: RepairRun,
    *,
    scan_sql: str | None,
) -> TableReport:
    declared = before.target.declared
    touched = {result.table for result in run.results}
    again = after if after is not None and before.target.name in touched else None
    problems = [problem.text for problem in before.target.problems]
    problems += [before.error] if before.error else []
    tenant = declared.tenant or (
        f"the {declared.tenant_from}'s name" if declared.tenant_from else None
    )
    return TableReport(
        name=before.target.name,
        examined=before.measured,
        error="; ".join(problems) or None,
        rows=before.rows,
        estimated=before.unlisted.rows is not None,
        looked_at=before.looked_at,
        scan_seconds=before.seconds,
        scan_sql=scan_sql,
        segments_total=len(before.measurements),
        text=declared.text,
        embedding=declared.embedding
        if declared.store is None
        else f"{declared.store.name}.{declared.store.embedding}",
        tenant=tenant,
        segments=tuple(_segments(before, again)),
    )


def _segments(before: TableExamination, after: TableExamination | None) -> Iterator[SegmentCounts]:
    now = (
        {}
        if after is None
        else {measurement.segment.tenant: measurement for measurement in after.measurements}
    )
    for measurement in before.measurements:
        again = now.get(measurement.segment.tenant)
        times = [
            time
            for name, failing in measurement.failing.items()
            if failing
            for time in (measurement.first[name], measurement.last[name])
            if time is not None
        ]
        yield SegmentCounts(
            tenant=measurement.segment.tenant,
            rows=measurement.rows,
            uncounted=measurement.uncounted,
            before=dict(measurement.failing),
            after=None if after is None else dict(again.failing if again else {}),
            affected_before=_affected(measurement),
            affected_after=None if after is None else _affected(again),
            first=min(times, default=None),
            last=max(times, default=None),
            not_embeddable=measurement.not_embeddable,
            pending=measurement.pending,
        )


def _affected(measurement: Measurement | None) -> int | None:
    """Rows that fail any check; None where it is not known exactly."""
    if measurement is None:
        return 0
    return None if measurement.at_least else measurement.affected


def findings_of(examination: Examination) -> tuple[values.ReportedFinding, ...]:
    """Every finding, accepted ones included."""
    return tuple(
        values.ReportedFinding(
            table=finding.table,
            tenant=finding.tenant,
            whole_table=finding.whole_table,
            check=finding.check,
            severity=finding.severity,
            message=_message(finding),
            failing=None if finding.whole_table else finding.failing,
            rows=None if finding.whole_table else finding.rows,
            uncounted=finding.uncounted,
            since=finding.since,
            until=finding.until,
            sql=finding.query,
        )
        for finding in examination.findings
    )


def _message(finding: Finding) -> str:
    says = finding.says if finding.whole_table else f"{finding.counted} {finding.says}"
    return "; ".join(filter(None, (says, finding.accepted, finding.outgrown)))
