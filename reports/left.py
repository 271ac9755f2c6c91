"""Lists the findings that are left when a run has ended, with why and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediation.run.repair import repairable_checks
from remediation.table_repair.plan import refusal
from reports.incident import LeftFinding
from reports.repaired import DONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checks.examination.examination import Examination
    from checks.examination.table_examination import TableExamination
    from checks.findings.finding import Finding
    from remediation.run.repair_run import RepairRun
    from remediation.table_repair.result import TableRepair

TO_REPORT = (
    "its remedy is to report: no machine should decide",
    "look at the rows with the SQL below and decide",
)
"""Why a finding that no repair heals is left, and what to do next."""


def left_of(examination: Examination, run: RepairRun) -> Iterator[LeftFinding]:
    """The findings of the last examination that nobody accepted."""
    results = {result.table: result for result in run.results}
    reasons = {name: _reasons(result) for name, result in results.items()}
    for finding in examination.open_findings:
        table = examination.table(finding.table)
        reason = reasons.get(finding.table, {}).get(finding.tenant)
        why, next_step = _why(finding, table, results.get(finding.table), reason, run)
        yield LeftFinding(
            table=finding.table,
            tenant=finding.tenant,
            whole_table=finding.whole_table,
            check=finding.check,
            rows=None if finding.whole_table else finding.failing,
            why=why,
            next_step=next_step,
        )


def _reasons(result: TableRepair) -> dict[str | None, str]:
    """For each tenant, the most frequent reason why rows were not fixed."""
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
    if result is None and (run.dry_run or not run.tried):
        return (
            "nothing was repaired yet",
            "see with pytest --remediate --dry-run what it would take",
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
