"""Makes an incident of what the checks and the repair know; computes, and asks nobody anything."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING

from checks.exit_status import ExitStatus
from remediation.accepted import repairable_checks
from remediation.outcomes import Outcome
from remediation.plan import refusal
from remediation.probe import LEAST_COSINE
from reports import incident as values
from reports.incident import Incident, Result
from reports.tables import SegmentCounts, TableReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checks.evidence import Evidence
    from checks.examination import Examination
    from checks.findings import Finding
    from checks.table_examination import TableExamination
    from remediation.outcomes import OutcomeGroup
    from remediation.run import RepairRun
    from remediation.table_result import TableRepair

PACKAGES = (
    "great_expectations",
    "jinja2",
    "numpy",
    "openai",
    "pgvector",
    "psycopg",
    "pydantic",
    "pytest",
    "pytest-html",
)


DONE = (Outcome.FIXED, Outcome.RESTORED)
"""What a repair and a rollback set out for: such rows are no problem."""


def incident_of(
    evidence: Evidence, run: RepairRun, *, command: tuple[str, ...], status: int
) -> Incident:
    """The incident of a `--remediate` or `--rollback` run that looked at the database."""
    after = evidence.examination if run.measured_again else None
    server, provider = evidence.before.server, evidence.settings.provider
    result = _result(evidence, run, status)
    return Incident(
        run_id=run.run_id,
        started_at=run.started_at,
        finished_at=datetime.now(UTC),
        command=command,
        mode="repair" if run.rolls_back is None else "rollback",
        rolls_back=run.rolls_back,
        result=result,
        exit_status=_exit_status(status),
        headline=_headline(run, result),
        interruption="the run was interrupted before its end" if run.interrupted else None,
        settings_file=evidence.settings.path.name,
        database=values.Database(
            host=server.address or "local socket",
            port=server.port,
            name=server.database,
            role=server.role,
            server_version=server.version,
            pgvector_version=server.vector_version,
            same_write_side=run.server is None or run.server.address == server.address,
        ),
        provider=values.Provider(
            base_url=evidence.environment.get("OPENAI_BASE_URL") or provider.base_url,
            model=provider.model,
            dimensions=provider.dimensions,
            price_per_million_tokens=provider.price_per_million_tokens,
        ),
        versions=_versions(),
        tables=tuple(
            _table(table, None if after is None else after.table(table.target.name), run)
            for table in evidence.before.tables
            if not table.target.absent
        ),
        absent=tuple(table.target.name for table in evidence.before.tables if table.target.absent),
        findings_before=_findings(evidence.before),
        findings_after=None if after is None else _findings(after),
        plan=_plan(run),
        repair=_repair(run),
        left=tuple(_left(evidence.examination, run)),
        timeline=tuple(values.Event(time=time, text=text) for time, text in run.timeline),
    )


def unexamined_incident(
    reason: str,
    *,
    run_id: str,
    started_at: datetime,
    command: tuple[str, ...],
    status: int,
    rolls_back: str | None = None,
) -> Incident:
    """The incident of a run that could look at nothing."""
    return Incident(
        run_id=run_id,
        started_at=started_at,
        finished_at=datetime.now(UTC),
        command=command,
        mode="repair" if rolls_back is None else "rollback",
        rolls_back=rolls_back,
        result=Result.NOT_EXAMINED,
        exit_status=_exit_status(status),
        headline=reason.splitlines()[0],
        interruption=reason,
        versions=_versions(),
    )


def _exit_status(status: int) -> values.ExitStatus:
    return values.ExitStatus(code=status, meaning=ExitStatus(status).meaning)


def _versions() -> values.Versions:
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return values.Versions(
        python=f"{platform.python_version()} on {sys.platform}", packages=packages
    )


def _result(evidence: Evidence, run: RepairRun, status: int) -> Result:
    if run.interrupted or status in (ExitStatus.INTERRUPTED, ExitStatus.INTERNAL_ERROR):
        return Result.INTERRUPTED
    if run.rolls_back is not None:
        return Result.STOPPED if run.stopped_early else Result.ROLLED_BACK
    fixed = sum(result.account.count(Outcome.FIXED) for result in run.results)
    if run.stopped_early and fixed:
        return Result.STOPPED
    # A check that could not look has no finding, and is no pass.
    failing = any(f.severity == "error" for f in evidence.examination.open_findings)
    if not failing and status != ExitStatus.FAILS:
        return Result.STOPPED if run.stopped_early else Result.WHOLE
    return Result.PARTLY if fixed else Result.NOTHING_REPAIRED


def _headline(run: RepairRun, result: Result) -> str:
    if run.rolls_back is not None:
        return _headline_of_rollback(run)
    if run.refused is not None:
        wrote = any(entry.account.count(Outcome.FIXED) for entry in run.results)
        return f"{'The repair broke off' if wrote else 'No repair'}: {run.refused}"
    if not run.results:
        return "No row could be repaired" if result is not Result.WHOLE else "Everything holds"
    fixed = sum(entry.account.count(Outcome.FIXED) for entry in run.results)
    selected = sum(entry.account.selected for entry in run.results)
    errors = sum(
        entry.account.count(outcome)
        for entry in run.results
        for outcome in (Outcome.FAILED, Outcome.QUARANTINED)
    )
    return f"{fixed:,}/{selected:,} rows re-embedded, {errors:,} errors"


def _headline_of_rollback(run: RepairRun) -> str:
    if run.refused is not None:
        return f"No rollback: {run.refused}"
    restored = sum(entry.account.count(Outcome.RESTORED) for entry in run.results)
    selected = sum(entry.account.selected for entry in run.results)
    return f"{restored:,}/{selected:,} rows put back as they were before run {run.rolls_back}"


def _table(before: TableExamination, after: TableExamination | None, run: RepairRun) -> TableReport:
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
            before=dict(measurement.failing),
            after=None if after is None else dict(again.failing if again else {}),
            first=min(times, default=None),
            last=max(times, default=None),
            not_embeddable=measurement.not_embeddable,
            pending=measurement.pending,
        )


def _findings(examination: Examination) -> tuple[values.Finding, ...]:
    return tuple(
        values.Finding(
            table=finding.table,
            tenant=finding.tenant,
            whole_table=finding.whole_table,
            check=finding.check,
            severity=finding.severity,
            message=_message(finding),
            failing=None if finding.whole_table else finding.failing,
            rows=None if finding.whole_table else finding.rows,
            since=finding.since,
            until=finding.until,
            sql=finding.query,
        )
        for finding in examination.findings
    )


def _message(finding: Finding) -> str:
    says = finding.says if finding.whole_table else f"{finding.counted} {finding.says}"
    return "; ".join(filter(None, (says, finding.accepted, finding.outgrown)))


def _plan(run: RepairRun) -> values.Plan | None:
    plan = run.plan
    if plan is None:
        return None
    return values.Plan(
        rows=plan.rows,
        requests=sum(table.requests for table in plan.tables),
        probe_requests=sum(table.probe_requests for table in plan.tables),
        tokens=plan.tokens,
        tokens_exact=all(table.counted.startswith("exact") for table in plan.tables),
        dollars=plan.dollars,
        seconds=plan.seconds,
        max_rows=plan.max_rows,
        max_dollars=plan.max_cost,
        lines=tuple(
            values.PlanLine(
                table=table.table,
                tenant=line.tenant,
                rows=line.rows,
                requests=line.requests,
                tokens=line.tokens,
                dollars=plan.dollars_of(line.tokens),
            )
            for table in plan.tables
            for line in table.tenants
        ),
    )


def _repair(run: RepairRun) -> values.Repair | None:
    if not run.results and not run.interrupted:
        return None
    plan = run.plan
    models = {} if plan is None else {table.table: table.model for table in plan.tables}
    tokens = sum(result.spending.tokens for result in run.results)
    return values.Repair(
        outcomes=tuple(line for result in run.results for line in _outcomes(result)),
        requests=sum(result.spending.requests for result in run.results),
        tokens=tokens,
        dollars=None if plan is None else plan.dollars_of(tokens),
        seconds=sum(result.seconds for result in run.results),
        problems=tuple(
            _problem(result.table, group, run)
            for result in run.results
            for group in result.account.groups
            if group.outcome not in DONE
        ),
        probes=tuple(
            values.Probe(
                table=result.table,
                tenant=probe.tenant,
                model=models[result.table],
                cosines=probe.cosines,
                least=LEAST_COSINE,
            )
            for result in run.results
            for probe in result.probes
            # A probe without an answer proves nothing; its rows are among the problems.
            if probe.failure is None
        ),
    )


def _outcomes(result: TableRepair) -> Iterator[values.Outcomes]:
    counts: dict[str | None, dict[str, int]] = {}
    for group in result.account.groups:
        of_tenant = counts.setdefault(group.tenant, {})
        of_tenant[group.outcome] = of_tenant.get(group.outcome, 0) + group.rows
    for tenant, outcomes in counts.items():
        yield values.Outcomes.model_validate({"table": result.table, "tenant": tenant, **outcomes})


def _problem(table: str, group: OutcomeGroup, run: RepairRun) -> values.Problem:
    return values.Problem.model_validate(
        {
            "table": table,
            "tenant": group.tenant,
            "outcome": str(group.outcome),
            "reason": group.reason,
            "rows": group.rows,
            "sample_keys": tuple(", ".join(key) for key in group.sample_keys),
            "texts": {
                ", ".join(key): run.texts[table, key]
                for key in group.sample_keys
                if (table, key) in run.texts
            },
        }
    )


TO_REPORT = (
    "its remedy is to report: no machine should decide",
    "look at the rows with the SQL below and decide",
)
"""Why a finding that no repair heals is left, and what to do next."""


def _left(examination: Examination, run: RepairRun) -> Iterator[values.Left]:
    results = {result.table: result for result in run.results}
    reasons = {name: _reasons(result) for name, result in results.items()}
    for finding in examination.open_findings:
        table = examination.table(finding.table)
        reason = reasons.get(finding.table, {}).get(finding.tenant)
        why, next_step = _why(finding, table, results.get(finding.table), reason, run)
        yield values.Left(
            table=finding.table,
            tenant=finding.tenant,
            whole_table=finding.whole_table,
            check=finding.check,
            rows=None if finding.whole_table else finding.failing,
            why=why,
            next_step=next_step,
        )


def _reasons(result: TableRepair) -> dict[str | None, str]:
    """By tenant, why most of its rows that were not fixed were not."""
    reasons: dict[str | None, str] = {}
    for group in result.account.groups:
        if group.outcome not in DONE and group.reason:
            reasons.setdefault(group.tenant, group.reason)
    return reasons


def _why(
    finding: Finding,
    table: TableExamination,
    result: TableRepair | None,
    reason: str | None,
    run: RepairRun,
) -> tuple[str, str]:
    """Why a finding is still there, and what to do next; `reason` is that of its tenant's rows."""
    if finding.beside is not None:
        return TO_REPORT
    if finding.whole_table:
        return finding.says, "correct the table or the settings, then run pytest again"
    if finding.sampled and result is None:
        return finding.says, "find out which of these it is, then run pytest --canary again"
    if finding.check not in {check.name for check in repairable_checks(table)}:
        return TO_REPORT
    refused = refusal(table)
    if refused is not None:
        return refused, "correct it, then run pytest --remediate again"
    if run.rolls_back is not None and result is not None:
        return (
            reason or result.stopped or f"the rollback of run {run.rolls_back} put it back",
            "mend the cause, then see with pytest --remediate --dry-run what a repair would do",
        )
    if result is None:
        why = run.refused or ("the run was interrupted" if run.interrupted else "nothing was tried")
        return why, "see the reason, then run pytest --remediate again"
    cause = reason or result.stopped
    if cause is None:
        return (
            "these rows began to fail while the repair ran",
            "run pytest --remediate again",
        )
    return cause, "mend the cause, then run pytest --remediate again: it takes up what is left"
