"""Judges a case by an examination: findings, expected failures, or why there is no verdict.

Knows neither pytest nor the database.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from checks.findings.finding import changed_words, tenant_words
from checks.settings.check_names import CANARIES
from checks.wording import number, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.examination.examination import Examination
    from checks.examination.table_examination import TableExamination
    from checks.findings.finding import Finding
    from checks.items.cases import Case

TENANTS_LISTED = 50
"""Failing tenants that one item spells out; the JSON of a report has them all."""
QUERIES_SHOWN = 3
"""Statements that one item shows: those of its tenants differ in the tenant's name alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What an examination says of a case: findings, or why there is no verdict."""

    case: Case
    findings: tuple[Finding, ...] = ()
    not_examined: str | None = None
    bound: str | None = None
    """What the sample that was looked at tells of all rows."""
    not_there: str | None = None
    """Why there was nothing to look at, where that is allowed."""

    @property
    def open_findings(self) -> tuple[Finding, ...]:
        """The findings that nobody has agreed to live with."""
        return tuple(finding for finding in self.findings if finding.accepted is None)

    @property
    def message(self) -> str:
        """The open findings in words, capped: of several their sum, then the worst first."""
        findings = sorted(self.open_findings, key=lambda f: (f.whole_table, -f.failing))
        shown = findings[:QUERIES_SHOWN] + [
            replace(f, query=None) for f in findings[QUERIES_SHOWN:]
        ]
        listed = _listed([finding.message for finding in shown])
        counted = [finding for finding in findings if not finding.whole_table]
        if len(counted) < 2:
            return listed
        rows = plural(sum(finding.failing for finding in counted), "row")
        return (
            f"{self.case.check}: {rows} of {plural(len(counted), 'tenant')} in {self.case.table},"
            f" the worst first\n{listed}"
        )

    @property
    def accepted(self) -> str:
        """The accepted findings in words, each with until when and why; capped."""
        return _listed(
            [
                f"{finding.accepted} ({finding.message.splitlines()[0]})"
                for finding in self.findings
                if finding.accepted is not None
            ]
        )


def _listed(messages: Sequence[str]) -> str:
    lines = list(messages[:TENANTS_LISTED])
    left_out = len(messages) - len(lines)
    if left_out:
        lines.append(f"… and {number(left_out)} more: --report writes all of them as JSON")
    return "\n".join(lines)


def judge(case: Case, examination: Examination) -> Judgement:
    """The judgement of one case by an examination."""
    tables = examination.tables_of(case.table)
    if len(tables) == 1:
        return _judge_table(case, tables[0], examination)
    return _together(case, [_judge_table(case, table, examination) for table in tables])


def _together(case: Case, judged: Sequence[Judgement]) -> Judgement:
    """The judgement of all tables of an entry: what could not be looked at is an error of all."""
    findings = tuple(finding for one in judged for finding in one.findings)
    unseen = [one.not_examined for one in judged if one.not_examined is not None]
    if unseen:
        failing = Judgement(case=case, findings=findings).message
        return Judgement(case=case, not_examined=_listed([*unseen, *filter(None, [failing])]))
    not_there = [one.not_there for one in judged if one.not_there is not None]
    if len(not_there) == len(judged):
        return Judgement(case=case, not_there=_listed(not_there))
    bounds = [one.bound for one in judged if one.bound is not None]
    return Judgement(case=case, findings=findings, bound=_listed(bounds) or None)


def _judge_table(case: Case, table: TableExamination, examination: Examination) -> Judgement:
    case = replace(case, table=table.target.name)
    if table.target.absent:
        return Judgement(case=case, not_there=f"{case.table} is not there yet (required = false)")
    if case.check == "schema":
        return Judgement(case=case, findings=table.findings_of("schema"))
    idle = _idle(case, examination)
    if case.check == "index" and table.target.scannable:
        return Judgement(case=case, findings=(*table.findings_of("index"), *idle))
    if not table.measured:
        reason = table.error or f"{case.table} could not be examined: see its schema check"
        return Judgement(case=case, not_examined=reason)
    if table.part.leaves_out(case.check, case.beside):
        reason = f"not looked at in {case.table}: {table.part.why_left_out}"
        return Judgement(case=case, not_there=reason)
    if case.check in CANARIES:
        return _judge_canary(case, table)
    if case.beside is not None:
        if not any((gap.check, gap.beside) == (case.check, case.beside) for gap in table.gaps):
            return Judgement(case=case, not_examined=f"{case.beside} was not looked at this time")
        return Judgement(case=case, findings=table.findings_beside(case.check, case.beside))
    if case.check == "tenants":
        findings = table.findings_of("tenants")
        if not case.whole_table:
            findings = tuple(f for f in findings if f.tenant == case.tenant)
        return Judgement(case=case, findings=(*findings, *idle))
    if case.whole_table:
        if not table.has_rows and not idle:
            return Judgement(case=case, not_there=f"{case.table} has no rows to check")
        if table.part.changed_since is not None and not table.measurements and not idle:
            words = changed_words(table.part.changed_since)
            return Judgement(case=case, not_there=f"no row of {case.table} {words}")
        findings = (*table.findings_of(case.check), *idle)
        if not findings and table.unsampled(case.check):
            return Judgement(case=case, not_there=f"no row of {case.table} was sampled")
        return Judgement(case=case, findings=findings, bound=table.bound(case.check))
    if idle:
        return Judgement(case=case, findings=idle)
    verdict = table.verdict(case.check, case.tenant)
    if verdict is None and table.has(case.tenant) and table.unsampled(case.check, case.tenant):
        reason = f"no row of {tenant_words(case.tenant)} in {case.table} was sampled"
        return Judgement(case=case, not_there=reason)
    if verdict is None:
        return Judgement(case=case, not_examined=f"the tenant's rows are no longer in {case.table}")
    findings = () if verdict.holds else (table.finding(verdict),)
    bound = table.bound(case.check, case.tenant)
    return Judgement(case=case, findings=findings, bound=bound)


def _idle(case: Case, examination: Examination) -> tuple[Finding, ...]:
    """The acceptances under this case that are no longer needed."""
    return tuple(
        finding
        for finding in examination.idle
        if (finding.check, finding.table) == (case.check, case.table)
        and (case.whole_table or finding.tenant == case.tenant)
    )


def _judge_canary(case: Case, table: TableExamination) -> Judgement:
    """Judge a canary: segments that could not be looked at are an error unless others fail."""
    if not table.measurements:
        return Judgement(case=case, not_there=f"{case.table} has no rows to check")
    verdicts = [
        verdict
        for verdict in table.verdicts
        if verdict.check == case.check
        and verdict.sampled is not None
        and (case.whole_table or verdict.segment.tenant == case.tenant)
    ]
    if not verdicts:
        reason = f"the segment of {case.table} was not sampled: its rows came or went meanwhile"
        return Judgement(case=case, not_examined=reason)
    findings = tuple(table.finding(verdict) for verdict in verdicts if not verdict.holds)
    # Failing rows say more than segments not looked at: these come last, and are an error alone.
    findings = tuple(sorted(findings, key=lambda finding: finding.whole_table))
    if findings and findings[0].whole_table:
        unseen = Judgement(case=case, findings=findings)
        return Judgement(case=case, not_examined=unseen.message)
    reasons = {verdict.sampled.nothing for verdict in verdicts if verdict.sampled}
    if None not in reasons:
        return Judgement(case=case, not_there="; ".join(sorted(filter(None, reasons))))
    return Judgement(case=case, findings=findings)
