"""Applies the row checks to a target: those that are enabled there, with their thresholds.

The same predicate is counted by the scan, selected by the repair and counted again as proof.
"""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from functools import cache, partial
from typing import TYPE_CHECKING

from psycopg import sql

from checks.row_checks.built_in import BUILT_IN
from checks.row_checks.compared_rows import source_of
from checks.row_checks.row_check import AppliedCheck, RowCheck
from checks.row_checks.row_relation import columns_of, expressions_of, has_place
from checks.targets.stores import MAY_REPEAT

if TYPE_CHECKING:
    from collections.abc import Callable

    from checks.row_checks.row_relation import RowWords
    from checks.row_checks.set_rule import SetRule
    from checks.targets.target import Target

SCANNED_NORM = sql.Identifier("scanned_norm")
"""What a scan calls the norm that it has computed once for all checks that read it."""


_NEVER = sql.SQL("false")
"""The predicate of a check that the catalog proves to hold."""


def applied_checks(target: Target) -> tuple[AppliedCheck, ...]:
    """The row checks that apply to a target and are enabled, the user's own ones last."""
    words = columns_of(target)
    built_in = [
        _applied(target, check, words)
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
                reads_vectors=partial(_names_vector, own.failing_when),
            ),
            words,
        )
        for own in target.declared.custom
    ]
    return tuple(check for check in (*built_in, *custom) if check is not None)


def _custom(name: str) -> Callable[[Target, RowWords], sql.Composable]:
    return lambda _, row: row.custom[name]


def _names_vector(condition: str, target: Target) -> bool:
    """Whether a user's condition speaks of the vector, beyond whether there is one."""
    name = rf'(?<!\w){re.escape(target.embedding.name)}(?!\w)"?'
    beyond = re.sub(rf"{name}\s+IS\s+(NOT\s+)?NULL", "", condition, flags=re.IGNORECASE)
    return re.search(name, beyond, re.IGNORECASE) is not None


def _applied(target: Target, check: RowCheck, words: RowWords) -> AppliedCheck | None:
    """The check with its settings; None where they switch it off."""
    configured = target.declared.check_settings(check.name)
    if not configured.enabled:
        return None
    proof = check.proven(target)
    applied = AppliedCheck(
        name=check.name,
        says=f"{check.says} (only reported: {target.store.name} {MAY_REPEAT})"
        if target.store is not None and target.repeats and check.remedy == "re-embed"
        else check.says,
        remedy="report" if target.repeats else check.remedy,
        severity=configured.severity,
        min=Decimal(1) if configured.min is None else configured.min,
        predicate=_NEVER,
        write_shown=lambda: _NEVER,
        proof=proof,
        of_missing=check.of_missing,
        reads_vectors=proof is None and check.reads_vectors(target),
    )
    if proof is not None:
        return applied
    if check.rule_of_sets is not None:
        return _of_sets(applied, target, check.rule_of_sets, words)
    write = check.predicate
    assert write is not None
    predicate = write(target, words)
    of_norm = write(target, replace(words, norm=SCANNED_NORM))
    return replace(
        applied,
        predicate=predicate,
        write_shown=cache(lambda: write(target, expressions_of(target))),
        found=None if check.found is None else check.found(target, words),
        of_norm=None if words.norm is None or of_norm == predicate else of_norm,
    )


def _of_sets(
    applied: AppliedCheck,
    target: Target,
    write: Callable[[Target, RowWords], SetRule],
    words: RowWords,
) -> AppliedCheck:
    rule = write(target, words)
    placed = has_place(target) and not target.siblings
    return replace(
        applied,
        predicate=rule.holds_member(applied.name),
        write_shown=cache(
            lambda: write(target, expressions_of(target)).shown(
                source_of(target, for_people=True), rule if target.siblings else None
            )
        ),
        rule_of_sets=rule,
        write_members=lambda: rule.members(source_of(target), placed=placed),
        write_places=(lambda: rule.places(source_of(target))) if placed else None,
    )
