"""Applies the row checks to a target: those that are enabled there, with their thresholds.

The same predicate is counted by the scan, selected by the repair and counted again as proof.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from psycopg import sql

from checks.row_checks.built_in import BUILT_IN
from checks.row_checks.row_check import AppliedCheck, RowCheck
from checks.row_checks.row_relation import columns_of, expressions_of
from checks.targets.stores import MAY_REPEAT

if TYPE_CHECKING:
    from collections.abc import Callable

    from checks.row_checks.row_relation import RowWords
    from checks.targets.target import Target


def applied_checks(target: Target) -> tuple[AppliedCheck, ...]:
    """The row checks that apply to a target and are enabled, the user's own ones last."""
    built_in = [
        _applied(target, check)
        for check in BUILT_IN
        if check.applies(target.declared) and check.meaningful(target)
    ]
    custom = [
        _applied(
            target,
            RowCheck(
                name=own.name,
                says=f"fail {own.name} ({own.failing_when})",
                remedy=own.remedy,
                predicate=_custom(own.name),
            ),
        )
        for own in target.declared.custom
    ]
    return tuple(check for check in (*built_in, *custom) if check is not None)


def _custom(name: str) -> Callable[[Target, RowWords], sql.Composable]:
    return lambda _, row: row.custom[name]


def _applied(target: Target, check: RowCheck) -> AppliedCheck | None:
    """The check with its settings; None where they switch it off."""
    configured = target.declared.check_settings(check.name)
    if not configured.enabled:
        return None
    proof = check.proven(target)
    nothing = sql.SQL("false")
    return AppliedCheck(
        name=check.name,
        says=f"{check.says} (only reported: {target.store.name} {MAY_REPEAT})"
        if target.store is not None and target.repeats and check.remedy == "re-embed"
        else check.says,
        remedy="report" if target.repeats else check.remedy,
        severity=configured.severity,
        min=Decimal(1) if configured.min is None else configured.min,
        predicate=nothing if proof else check.predicate(target, columns_of(target)),
        shown=nothing if proof else check.predicate(target, expressions_of(target)),
        proof=proof,
        members=None
        if proof or check.members is None
        else check.members(target, columns_of(target)),
    )
