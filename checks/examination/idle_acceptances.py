"""Finds acceptances that are no longer needed, so that the list of them only shrinks.

Decides by values alone; `acceptance` has the words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checks.findings.acceptance import acceptances_of, not_applied, not_known, not_needed
from checks.findings.finding import Finding
from checks.settings.check_names import CANARIES, TABLE_CHECKS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from checks.examination.table_examination import TableExamination


def idle_acceptances(
    tables: Sequence[TableExamination], *, partial: Collection[str]
) -> tuple[Finding, ...]:
    """A finding for each acceptance whose check holds, does not apply, or names nobody.

    `partial` are the declarations of which not all tables were examined. Nothing is decided about
    these, about tables that could not be measured, or about tenants that were not selected.
    """
    groups: dict[str, list[TableExamination]] = {}
    for table in tables:
        if table.target.declared.checks:
            groups.setdefault(table.target.entry, []).append(table)
    return tuple(
        finding
        for name, group in groups.items()
        if name not in partial
        for finding in _idle_in(name, group)
    )


def _idle_in(name: str, tables: Sequence[TableExamination]) -> Iterator[Finding]:
    there = [table for table in tables if not table.target.absent]
    if not there or not all(table.measured for table in there):
        return
    declared = there[0].target.declared
    where = there[0].target.name if len(there) == 1 else name
    for check, tenant in acceptances_of(declared):
        unselected = there[0].tenants is not None and tenant not in there[0].tenants
        # A sample without a failing row does not prove that no row fails.
        unproven = not all(table.part.proves(check) for table in there)
        if (
            unselected
            or unproven
            or check in CANARIES
            or any(_needed(t, check, tenant) for t in there)
        ):
            continue
        home = next((table for table in there if table.has(tenant)), None)
        if check not in TABLE_CHECKS and not any(table.applies(check) for table in there):
            says = not_applied(check, where)
        elif (
            home is None
            and check not in TABLE_CHECKS
            and all(table.part.whole for table in there)
            and not _of_whole(there, check, tenant)
        ):
            says = not_known(check, tenant, where)
        else:
            says = not_needed(check, tenant, where)
        yield Finding(
            check=check,
            table=(home or there[0]).target.name,
            tenant=tenant,
            whole_table=True,
            severity=declared.check_settings(check).severity,
            says=says,
        )


def _of_whole(tables: Sequence[TableExamination], check: str, tenant: str | None) -> bool:
    """Whether the check is about rows beside a table, which have no tenant."""
    return tenant is None and any(gap.check == check for table in tables for gap in table.gaps)


def _needed(table: TableExamination, check: str, tenant: str | None) -> bool:
    """Whether the check fails there, covered by the acceptance or not."""
    verdict = table.verdict(check, tenant)
    if verdict is not None and not verdict.holds:
        return True
    found = (finding for finding in table.of_whole_table if finding.check == check)
    return any(finding.tenant == tenant for finding in found)
