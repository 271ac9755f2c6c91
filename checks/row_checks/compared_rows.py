"""Writes the rows that a rule about sets holds against each other, those of sibling entries too.

Builds SQL only; runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.row_checks.row_expressions import changed_by_columns, norm_of, scope_of
from checks.row_checks.row_relation import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from checks.targets.target import Target


def source_of(target: Target, *, for_people: bool = False) -> sql.Composable:
    """FROM and WHERE of a statement about the rows of all tenants, and of siblings if it has any.

    For people it reads the user's own table, except beside a store, as in `expressions_of`, and
    beside siblings.
    """
    if target.siblings:
        every_row = compared_rows(target, (target, *target.siblings))
        return sql.SQL("FROM {} AS every_row WHERE true").format(every_row)
    if for_people and target.store is None:
        conditions = [scope_of(target)]
        if target.changed_since is not None:
            conditions.append(changed_by_columns(target))
        return sql.SQL("FROM {} WHERE {}").format(
            target.identifier, sql.SQL(" AND ").join(conditions)
        )
    return sql.SQL("FROM {} AS every_row WHERE true").format(rows_of(target))


def compared_rows(
    target: Target,
    entries: Sequence[Target],
    *,
    taken: Callable[[Target], sql.Composable] = lambda _: sql.SQL("true"),
) -> sql.Composable:
    """The rows of entries with vectors in the column of `target`, each with its entry's own text.

    In the words that a rule about sets has of a row: embedding, embeddable, text, held_at, and the
    norm as the target has it, lest one vector have two. `taken` chooses among an entry's rows.
    """
    words = sql.SQL("embedding, embeddable, text, held_at")
    norm = norm_of(target, sql.SQL("embedding"))
    return sql.SQL("({})").format(
        sql.SQL("\nUNION ALL ").join(
            sql.SQL("SELECT {}, {} AS norm FROM {} AS r WHERE {}").format(
                words, sql.SQL("NULL") if norm is None else norm, rows_of(entry), taken(entry)
            )
            for entry in entries
        )
    )
