"""What becomes a pytest item: a check on a segment or a table, and its judgement by the evidence.

Knows neither pytest nor the database; the plugin turns cases into items.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from checks.rules import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checks.examination import Examination, TableExamination
    from checks.findings import Finding
    from checks.settings import Settings, Table

SEGMENTS_WITH_ITEMS = 500
"""Beyond so many segments of one declaration, an item per check and table lists its tenants."""

TENANTS_LISTED = 50
"""Failing tenants that one item spells out; the report holds them all."""

TABLE_CHECKS = ("schema", "tenants")


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One item: a check on a whole table, or on one tenant's rows in it."""

    check: str
    table: str
    tenant: str | None = None
    whole_table: bool = True

    @property
    def id(self) -> str:
        """A slug and a short hash: safe in a terminal, XML and HTML, and stable across runs."""
        table = self.table.removeprefix("public.")
        parts = [self.check, _slug(table)]
        if not self.whole_table:
            tenant = "null" if self.tenant is None else _slug(self.tenant)
            identity = f"{self.table}\0{'null' if self.tenant is None else 'tenant ' + self.tenant}"
            parts += [tenant, _hash(identity)]
        elif _slug(table) != table:
            parts.append(_hash(self.table))
        return "-".join(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What the evidence says of a case: findings, or why there is no verdict."""

    case: Case
    findings: tuple[Finding, ...] = ()
    not_examined: str | None = None
    not_there: str | None = None
    """Why there was nothing to look at, where that is allowed."""

    @property
    def message(self) -> str:
        """The findings in words, capped."""
        lines = [finding.message for finding in self.findings[:TENANTS_LISTED]]
        left_out = len(self.findings) - len(lines)
        if left_out:
            lines.append(f"… and {left_out:,} more tenants, all of them in the incident report")
        return "\n".join(lines)


def cases_of(examination: Examination) -> tuple[Case, ...]:
    """A case per check and segment, or per check and table beyond `SEGMENTS_WITH_ITEMS`."""
    segments = Counter[str]()
    for table in examination.tables:
        segments[str(table.target.declared.name)] += len(table.measurements)
    cases: list[Case] = []
    for table in examination.tables:
        by_table = segments[str(table.target.declared.name)] > SEGMENTS_WITH_ITEMS
        cases += _cases(table, by_table=by_table)
    return tuple(cases)


def cases_declared(settings: Settings) -> tuple[Case, ...]:
    """The cases as far as the settings tell them, without a database: check and table."""
    return tuple(
        Case(check=check, table=str(table.name))
        for table in settings.tables
        for check in ("schema", *_declared_tenants_check(table), *_declared_row_checks(table))
    )


def judge(case: Case, examination: Examination) -> Judgement:
    """The judgement of one case by an examination."""
    table = examination.table(case.table)
    if table.target.absent:
        return Judgement(case=case, not_there=f"{case.table} is not there yet (required = false)")
    if case.check == "schema":
        return Judgement(case=case, findings=table.findings_of("schema"))
    if not table.measured:
        reason = table.error or f"{case.table} could not be examined: see its schema check"
        return Judgement(case=case, not_examined=reason)
    if case.check == "tenants":
        findings = table.findings_of("tenants")
        if not case.whole_table:
            findings = tuple(f for f in findings if f.tenant == case.tenant)
        return Judgement(case=case, findings=findings)
    if case.whole_table:
        if not table.measurements:
            return Judgement(case=case, not_there=f"{case.table} has no rows to check")
        return Judgement(case=case, findings=table.findings_of(case.check))
    verdict = table.verdict(case.check, case.tenant)
    if verdict is None:
        return Judgement(case=case, not_examined=f"the tenant's rows are no longer in {case.table}")
    findings = () if verdict.holds else (table.finding(verdict),)
    return Judgement(case=case, findings=findings)


def _cases(table: TableExamination, *, by_table: bool) -> list[Case]:
    name = table.target.name
    cases = [Case(check="schema", table=name)]
    if table.target.absent:
        return cases
    tenants = table.expected_tenants
    for check in _declared_tenants_check(table.target.declared):
        if table.must_have_rows or len(tenants) > SEGMENTS_WITH_ITEMS:
            cases.append(Case(check=check, table=name))
        else:
            cases += _per_tenant(check, name, tenants)
    row_checks = [check.name for check in table.checks] or _declared_row_checks(
        table.target.declared
    )
    for check in row_checks:
        if by_table or not table.measurements:
            cases.append(Case(check=check, table=name))
        else:
            cases += _per_tenant(check, name, (m.segment.tenant for m in table.measurements))
    return cases


def _per_tenant(check: str, table: str, tenants: Iterable[str | None]) -> list[Case]:
    return [Case(check=check, table=table, tenant=tenant, whole_table=False) for tenant in tenants]


def _declared_tenants_check(table: Table) -> list[str]:
    return ["tenants"] if table.check_settings("tenants").enabled else []


def _declared_row_checks(table: Table) -> list[str]:
    names = [*(check.name for check in BUILT_IN), *(own.name for own in table.custom)]
    return [name for name in names if table.check_settings(name).enabled]


def _hash(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()[:6]


def _slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9_.]+", "-", text.lower()).strip("-.")
    return slug[:32].rstrip("-.") or "x"
