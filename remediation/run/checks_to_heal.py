"""Says which checks of a table a repair heals, holds to, or leaves alone as accepted.

Reads an examination; asks no database.
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
    """The checks of a table that a repair can heal and that some row fails.

    Leaves out accepted failures: a check is false for rows of tenants where it is accepted.
    """
    if not table.measured:
        return ()
    accepted = table.accepted
    healing = [check for check in table.checks if check.remedy == "re-embed"]
    return tuple(
        without(check, {tenant for name, tenant in accepted if name == check.name})
        for check in healing
        if open_failing(table, check.name) > 0
    )


def held_checks(table: TableExamination) -> tuple[AppliedCheck, ...]:
    """The checks that no repair heals here, and that a write of its vector may make a row fail.

    None about sets of rows, none that the catalog proves, none that other tables decide.
    """
    own = {custom.name for custom in table.target.declared.custom}
    healed = {check.name for check in repairable_checks(table)}
    return tuple(
        check
        for check in table.checks
        if (check.remedy == "re-embed" or check.name in own)
        and check.name not in healed
        and check.members is None
        and check.proof is None
    )


def accepted_checks(table: TableExamination) -> tuple[AppliedCheck, ...]:
    """The checks with accepted failures, with predicates for the rows of every tenant."""
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


def without(check: AppliedCheck, tenants: Collection[str | None]) -> AppliedCheck:
    """The check, which rows of these tenants never fail."""
    if not tenants:
        return check
    named = sql.Literal(sorted(tenant for tenant in tenants if tenant is not None))
    theirs = sql.SQL("tenant = ANY({}::text[])").format(named)
    if None in tenants:
        theirs = sql.SQL("tenant IS NULL OR {}").format(theirs)
    narrowed = sql.SQL("({}) AND ({}) IS NOT TRUE").format(check.predicate, theirs)
    return replace(check, predicate=narrowed)
