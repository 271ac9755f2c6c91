"""Lists the cases that become pytest items: a check on a segment or a table.

Knows neither pytest nor the database; the plugin turns cases into items.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from checks.row_checks.built_in import BUILT_IN
from checks.scanning.gaps import declared_gaps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checks.examination.examination import Examination
    from checks.examination.table_examination import TableExamination
    from checks.settings.integrity_toml import Settings
    from checks.settings.tables import Table

SEGMENTS_WITH_ITEMS = 500
"""Beyond so many segments of one declaration, an item per check and table lists its tenants; beyond
so many tables of one, an item per check lists the tables too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One item: a check on a whole table, or on one tenant's rows in it."""

    check: str
    table: str
    """As declared, a pattern, where the item is about all tables that it stands for."""
    tenant: str | None = None
    whole_table: bool = True
    beside: str | None = None
    """The store or source whose rows are checked, where they are not the table's own."""

    @property
    def id(self) -> str:
        """A slug and a short hash: safe in a terminal, XML and HTML, and stable across runs."""
        table = self.table.removeprefix("public.")
        parts = [self.check, _slug(table)]
        if not self.whole_table:
            tenant = "null" if self.tenant is None else _slug(self.tenant)
            identity = f"{self.table}\0{'null' if self.tenant is None else 'tenant ' + self.tenant}"
            parts += [tenant, _hash(identity)]
        elif self.beside is not None:
            beside = self.beside.removeprefix("public.")
            parts += ["beside", _slug(beside), _hash(f"{self.table}\0{self.beside}")]
        elif _slug(table) != table:
            parts.append(_hash(self.table))
        return "-".join(parts)


def cases_of(examination: Examination) -> tuple[Case, ...]:
    """A case per check and segment; per check and table, or per check, beyond so many of them."""
    declared: dict[str, list[TableExamination]] = {}
    for table in examination.tables:
        declared.setdefault(table.target.entry, []).append(table)
    cases: list[Case] = []
    for name, tables in declared.items():
        many = sum(len(table.measurements) for table in tables) > SEGMENTS_WITH_ITEMS
        # Whole tenants are not listed where only failing rows were read.
        of_each = [_cases(one, by_table=many or one.part.failing_only) for one in tables]
        listed = [case for of_table in of_each for case in of_table]
        if len(tables) > SEGMENTS_WITH_ITEMS:
            listed = [
                case if case.beside else Case(check=case.check, table=name) for case in listed
            ]
        cases += dict.fromkeys(listed)
    known = set(cases)
    for finding in examination.idle:
        whole = Case(check=finding.check, table=finding.table)
        entry = examination.table(finding.table).target.entry
        if whole in known or replace(whole, table=entry) in known:
            continue
        of_tenant = replace(whole, tenant=finding.tenant, whole_table=False)
        case = whole if finding.check == "index" else of_tenant
        if case not in known:
            known.add(case)
            cases.append(case)
    return tuple(cases)


def cases_listed_as(
    listed: Case, cases: Iterable[Case], examination: Examination
) -> tuple[Case, ...]:
    """The cases that one case of `cases_declared` stands for."""

    def declared(case: Case) -> str:
        return examination.tables_of(case.table)[0].target.entry

    return tuple(
        case
        for case in cases
        if case.check == listed.check
        and (case.beside is None) == (listed.beside is None)
        and declared(case) == listed.table
    )


def cases_declared(settings: Settings) -> tuple[Case, ...]:
    """The cases as far as the settings alone show them, without a database: check and table."""
    return tuple(
        Case(check=check, table=name)
        for name, table in settings.named_tables
        for check in (
            "schema",
            *_declared_tenants_check(table),
            *_declared_index_check(table),
            *_declared_row_checks(table),
        )
    ) + tuple(
        Case(check=check, table=name, beside=beside)
        for name, table in settings.named_tables
        for check, beside in declared_gaps(table)
    )


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
    cases += [
        Case(check=check, table=name) for check in _declared_index_check(table.target.declared)
    ]
    row_checks = [check.name for check in table.checks] or _declared_row_checks(
        table.target.declared
    )
    for check in row_checks:
        if by_table or not table.measurements:
            cases.append(Case(check=check, table=name))
        else:
            cases += _per_tenant(check, name, (m.segment.tenant for m in table.measurements))
    cases += [Case(check=gap.check, table=name, beside=gap.beside) for gap in table.gaps]
    cases += [Case(check=one.check, table=name, beside=one.beside) for one in table.part.left_out]
    return cases


def _per_tenant(check: str, table: str, tenants: Iterable[str | None]) -> list[Case]:
    return [Case(check=check, table=table, tenant=tenant, whole_table=False) for tenant in tenants]


def _declared_tenants_check(table: Table) -> list[str]:
    return ["tenants"] if table.check_settings("tenants").enabled else []


def _declared_index_check(table: Table) -> list[str]:
    wanted = table.index is not None and table.check_settings("index").enabled
    return ["index"] if wanted else []


def _declared_row_checks(table: Table) -> list[str]:
    built_in = (check.name for check in BUILT_IN if check.applies(table))
    names = [*built_in, *(own.name for own in table.custom)]
    return [name for name in names if table.check_settings(name).enabled]


def _hash(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()[:6]


def _slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9_.]+", "-", text.lower()).strip("-.")
    return slug[:32].rstrip("-.") or "x"
