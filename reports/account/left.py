"""Lists the findings that are left when a run has ended, with why and what to do next."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remediation.ending import INTERRUPTED
from remediation.journal.outcomes import Outcome
from remediation.run.checks_to_heal import repairable_checks
from remediation.table_repair.planning.plan import refusal
from reports.account.again import commands_for
from reports.account.repaired import DONE
from reports.values.incident import LeftFinding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from checks.examination.examination import Examination
    from checks.examination.table_examination import TableExamination
    from checks.findings.finding import Finding
    from remediation.journal.outcomes import OutcomeGroup
    from remediation.run.repair_run import RepairRun
    from remediation.table_repair.result import TableRepair

TO_REPORT = (
    "its remedy is to report: no machine should decide",
    "look at the rows with the SQL below and decide",
)
"""Why a finding that no repair heals is left, and what to do next."""
TOO_LONG = re.compile(
    r"has [\d,]+ tokens, more than|maximum context length|too long|too many tokens"
)
"""Of a text that a setting may cut, in our words and in those of providers."""
GRANT = re.compile(r"GRANT .+;")
"""The statement that gives a repair the rights that it lacks."""
BETTER_TEXT = re.compile(r'another text agrees better .{1,200}?: (text = "(?:[^"\\]|\\.)*")')
"""Of a probe that was refused, and that found by what text the vectors were made."""
KEY_REFUSED = re.compile(r"provider answered (?:40[123]\b|\d+ \(.*quota)")
"""Of a key that is dead, or has no quota left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Table:
    """What is to be known of a table for each of its findings, of which there may be thousands."""

    examined: TableExamination
    repairable: frozenset[str]
    """The checks that a repair heals."""
    result: TableRepair | None
    reasons: Mapping[str | None, OutcomeGroup]
    """Why rows of a tenant were not fixed."""
    unplanned: str | None
    """Why the plan leaves the table out, as for want of a right."""


def left_of(
    examination: Examination, run: RepairRun, command: Sequence[str]
) -> Iterator[LeftFinding]:
    """The findings of the last examination that nobody accepted; `command` is the run's."""
    results = {result.table: result for result in run.results}
    planned = {} if run.plan is None else {one.table: one.unrepairable for one in run.plan.tables}
    tables: dict[str, _Table] = {}
    commands: dict[str, tuple[str, ...]] = {}
    for finding in examination.open_findings:
        name = finding.table
        if name not in tables:
            examined, result = examination.table(name), results.get(name)
            tables[name] = _Table(
                examined=examined,
                repairable=frozenset(check.name for check in repairable_checks(examined)),
                result=result,
                reasons={} if result is None else _reasons(result),
                unplanned=planned.get(name),
            )
        why, next_step = _why(finding, tables[name], run)
        if next_step not in commands:
            commands[next_step] = (*GRANT.findall(why), *commands_for(next_step, command, run))
        yield LeftFinding(
            table=name,
            tenant=finding.tenant,
            whole_table=finding.whole_table,
            check=finding.check,
            rows=None if finding.whole_table else finding.failing,
            why=why,
            next_step=next_step,
            commands=commands[next_step],
        )


def _reasons(result: TableRepair) -> dict[str | None, OutcomeGroup]:
    """For each tenant, the most frequent outcome and reason of rows that were not fixed."""
    reasons: dict[str | None, OutcomeGroup] = {}
    for group in result.account.groups:
        if group.outcome not in DONE and group.reason and group.rows:
            reasons.setdefault(group.tenant, group)
    return reasons


def next_step_for(group: OutcomeGroup | None) -> str:
    """What to do about rows of one outcome."""
    again = "then run pytest --remediate again: it takes up what is left"
    if group is None:
        return f"mend the cause, {again}"
    if group.reason == INTERRUPTED:
        return "run pytest --remediate again: it takes up what is left"
    if group.outcome is Outcome.SUPERSEDED:
        return "run pytest --remediate again: somebody else changed these rows meanwhile"
    if group.outcome is Outcome.QUARANTINED and TOO_LONG.search(group.reason):
        return (
            'shorten these texts, or say too_long = "truncate" in [provider] to embed their'
            f" beginnings, {again}"
        )
    if group.outcome is Outcome.QUARANTINED:
        return (
            "correct these texts and run pytest --remediate again, or send them as they are with"
            " pytest --remediate --retry-quarantined"
        )
    if (option := re.search(r"is reached \((--max-\w+)\)", group.reason)) is not None:
        return f"run pytest --remediate again with a larger {option[1]}: it takes up what is left"
    if group.reason.startswith("no key was found"):
        return "give these tenants keys, " + again
    if KEY_REFUSED.search(group.reason):
        return f"renew the keys of these tenants, or their quota, {again}"
    if (better := BETTER_TEXT.search(group.reason)) is not None:
        return f"write {better[1]} in the settings of the table, {again}"
    if group.reason.startswith("the probe refused"):
        return f"see which model and text the stored vectors were made with, correct these, {again}"
    if (named := re.search(r"[,;] check (.+)$", group.reason)) is not None:
        return f"check {named[1]}, {again}"
    return f"mend the cause, {again}"


def mend(table: str, why: str) -> str:
    """What to do about a reason for which a table is not repaired."""
    lacks = f"grant what a repair of {table} lacks"
    return lacks if GRANT.search(why) else "mend what keeps these rows from being repaired"


def _why(finding: Finding, table: _Table, run: RepairRun) -> tuple[str, str]:
    """Why a finding is still there, and what to do next."""
    result, group = table.result, table.reasons.get(finding.tenant)
    reason = None if group is None else group.reason
    if finding.beside is not None:
        return TO_REPORT
    if finding.whole_table:
        return finding.says, "correct the table or the settings, then run pytest again"
    if finding.sampled and result is None:
        return finding.says, "find out which of these it is, then run pytest --canary again"
    if finding.check not in table.repairable:
        return TO_REPORT
    refused = refusal(table.examined)
    if refused is not None:
        return refused, f"{mend(finding.table, refused)}, then run pytest --remediate again"
    if run.rolls_back is not None and result is not None:
        return (
            reason or result.stopped or f"the rollback of run {run.rolls_back} put it back",
            "mend the cause, then see with pytest --remediate --dry-run what a repair would do",
        )
    if result is None and table.unplanned is not None:
        step = mend(finding.table, table.unplanned)
        return table.unplanned, f"{step}, then run pytest --remediate again"
    if result is None and (run.dry_run or not run.tried):
        return (
            "nothing was repaired yet",
            "see with pytest --remediate --dry-run what it would take",
        )
    if result is None:
        why = run.refused or ("the run was interrupted" if run.interrupted else "nothing was tried")
        return why, "see the reason, then run pytest --remediate again"
    cause = reason or result.stopped
    if run.interrupted and cause is not None and reason is None:
        return cause, "run pytest --remediate again: it takes up what is left"
    if cause is None:
        return (
            "these rows began to fail while the repair ran",
            "run pytest --remediate again",
        )
    return cause, next_step_for(group)
