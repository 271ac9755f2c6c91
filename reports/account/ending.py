"""Says in one word and in one line how a run ended. Values only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checks.exit_status import ExitStatus
from checks.wording import plural
from remediation.journal.outcomes import Outcome
from reports.values.incident import Result

if TYPE_CHECKING:
    from checks.examination.run_context import RunContext
    from remediation.run.repair_run import RepairRun


def result_of(
    context: RunContext, run: RepairRun, status: int, *, checks_only: bool = False
) -> Result:
    """How a run that looked at the database ended, given its exit status."""
    if run.interrupted or status in (ExitStatus.INTERRUPTED, ExitStatus.INTERNAL_ERROR):
        return Result.INTERRUPTED
    if run.rolls_back is not None:
        return Result.STOPPED if run.stopped_early else Result.ROLLED_BACK
    fixed = sum(result.account.count(Outcome.FIXED) for result in run.results)
    if run.stopped_early and fixed:
        return Result.STOPPED
    # A check that could not look has no finding, and is no pass.
    failing = any(f.severity == "error" for f in context.examination.open_findings)
    if not failing and status != ExitStatus.FAILS:
        return Result.STOPPED if run.stopped_early else Result.WHOLE
    if checks_only or (run.dry_run and run.refused is None):
        return Result.OPEN
    return Result.PARTLY if fixed else Result.NOTHING_REPAIRED


def headline_of(context: RunContext, run: RepairRun, result: Result) -> str:
    """What a reader should know first."""
    if run.rolls_back is not None:
        return _headline_of_rollback(run)
    if run.refused is not None:
        wrote = any(entry.account.count(Outcome.FIXED) for entry in run.results)
        return f"{'The repair broke off' if wrote else 'No repair'}: {run.refused}"
    if result is Result.OPEN:
        planned = f"; {plural(run.plan.rows, 'row')} would be re-embedded" if run.plan else ""
        found = context.examination.open_findings
        return f"{plural(len(found), 'finding')}{planned}"
    if not run.results:
        return "No row could be repaired" if result is not Result.WHOLE else "Everything holds"
    fixed = sum(entry.account.count(Outcome.FIXED) for entry in run.results)
    selected = sum(entry.account.selected + entry.not_begun for entry in run.results)
    if run.interrupted and run.plan is not None:
        # Some tables may not have been begun at all.
        selected = max(selected, run.plan.selected)
    errors = sum(
        entry.account.count(outcome)
        for entry in run.results
        for outcome in (Outcome.FAILED, Outcome.QUARANTINED)
    )
    return f"{fixed:,}/{selected:,} rows re-embedded, {plural(errors, 'error')}"


def _headline_of_rollback(run: RepairRun) -> str:
    if run.refused is not None:
        return f"No rollback: {run.refused}"
    restored = sum(entry.account.count(Outcome.RESTORED) for entry in run.results)
    selected = sum(entry.account.selected for entry in run.results)
    return f"{restored:,}/{selected:,} rows put back as they were before run {run.rolls_back}"
