"""Keeps accepted findings out of a repair: their rows are neither selected nor taken for healthy.

Builds SQL only; what is accepted is decided by `checks.examination.acceptance`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Collection

    from checks.examination.table_examination import TableExamination
    from checks.row_checks.row_check import AppliedCheck


def repairable_checks(table: TableExamination) -> tuple[AppliedCheck, ...]:
    """The checks of a table that a repair can heal and that some row fails, accepted ones apart.

    Where a check's failures are accepted for some tenants, it is false of the rows of these.
    """
    if not table.measured:
        return ()
    accepted = table.accepted
    healing = [check for check in table.checks if check.remedy == "re-embed"]
    return tuple(
        _without(check, {tenant for name, tenant in accepted if name == check.name})
        for check in healing
        if open_failing(table, check.name) > 0
    )


def accepted_checks(table: TableExamination) -> tuple[AppliedCheck, ...]:
    """The checks with accepted failures, true of the rows of every tenant."""
    names = {name for name, _ in table.accepted}
    return tuple(check for check in table.checks if check.name in names)


def open_failing(table: TableExamination, check: str) -> int:
    """Rows failing a check for tenants whose failures are not accepted."""
    accepted = table.accepted
    return sum(
        measurement.failing[check]
        for measurement in table.measurements
        if (check, measurement.segment.tenant) not in accepted
    )


def _without(check: AppliedCheck, tenants: Collection[str | None]) -> AppliedCheck:
    if not tenants:
        return check
    named = sql.Literal(sorted(tenant for tenant in tenants if tenant is not None))
    theirs = sql.SQL("tenant = ANY({}::text[])").format(named)
    if None in tenants:
        theirs = sql.SQL("tenant IS NULL OR {}").format(theirs)
    narrowed = sql.SQL("({}) AND ({}) IS NOT TRUE").format(check.predicate, theirs)
    return replace(check, predicate=narrowed)
