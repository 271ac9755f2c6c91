"""Finds the entries that keep their embeddings in one and the same table, or column.

Judges settings and catalog facts; asks the database nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.targets.target import Target

UNIQUENESS = "uniqueness"
MOST_SIBLINGS = 20
"""Entries of one column, beyond which none is held against the others: each reads the vectors of
all, and a thousand schemas may have one store."""


def with_siblings(targets: Sequence[Target]) -> tuple[Target, ...]:
    """The targets, each with those whose vectors its own are held against.

    These are checked for `uniqueness` themselves: what a target is not asked, it tells no other.
    """
    users: dict[int, set[int]] = defaultdict(set)
    columns: dict[tuple[int, str], list[Target]] = defaultdict(list)
    for target in targets:
        if target.store is not None:
            users[target.store.relation.oid].add(target.facts.oid)
        if _compares(target):
            columns[_column_of(target)].append(target)

    def siblings_of(target: Target) -> tuple[Target, ...]:
        alike = columns[_column_of(target)] if _compares(target) else ()
        if len(alike) > MOST_SIBLINGS:
            return ()
        return tuple(other for other in alike if other is not target)

    return tuple(
        replace(
            target,
            store_is_shared=target.store is not None
            and not target.store.restricted
            and len(users[target.store.relation.oid]) > 1,
            siblings=siblings_of(target),
        )
        for target in targets
    )


def _column_of(target: Target) -> tuple[int, str]:
    return target.holder.oid, target.embedding.name


def _compares(target: Target) -> bool:
    """Whether a target's vectors are held against each other, and its rows told apart."""
    return (
        target.scannable
        and target.text_is_known
        and target.holder.has_places
        and target.declared.totals != "estimated"
        and target.declared.check_settings(UNIQUENESS).enabled
    )
