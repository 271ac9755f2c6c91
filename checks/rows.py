"""The rows of a target as one SQL relation, in the words of the settings: tenant, text, embedding.

Every predicate is written in these words, whatever the user's columns are called.
Builds SQL only; runs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from checks.expressions import embed_sql

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checks.targets import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class RowWords:
    """SQL for each word a predicate may use of a row."""

    embedding: sql.Composable
    embeddable: sql.Composable
    """Its text is not blank."""
    past_grace: tuple[sql.Composable, ...]
    """What must hold of a row that is no longer pending; () where there is no grace."""
    custom: Mapping[str, sql.Composable]
    """The condition of each of the user's own checks, by its name."""
    for_people: bool = False
    """Whether a person reads the SQL: then what is only faster is left out."""


def columns_of(target: Target) -> RowWords:
    """The words as columns of `rows_of`."""
    return RowWords(
        embedding=sql.SQL("embedding"),
        embeddable=sql.SQL("embeddable"),
        past_grace=() if target.declared.grace is None else (sql.SQL("NOT pending"),),
        custom={
            check.name: sql.Identifier(f"custom_{position}")
            for position, check in enumerate(target.declared.custom, start=1)
        },
    )


def expressions_of(target: Target) -> RowWords:
    """The same words as expressions over the user's own table, for a statement that people read."""
    return RowWords(
        embedding=sql.Identifier(target.embedding.name),
        embeddable=_embeddable(text_of(target)),
        past_grace=()
        if target.declared.grace is None
        else (sql.SQL("NOT ({})").format(_pending(target, time_of(target.declared.created_at))),),
        custom={
            check.name: sql.SQL("{} IS TRUE").format(embed_sql(check.failing_when))
            for check in target.declared.custom
        },
        for_people=True,
    )


def rows_of(target: Target) -> sql.Composed:
    """A parenthesised subselect with the columns below, over the rows that ought to be whole.

    key_1 … key_n, tenant (text), text (text), embedding, created_at (timestamptz or NULL),
    pending (younger than its grace), embeddable (its text is not blank), and a boolean
    custom_1 … custom_n for each of the user's own checks.

    The planner folds it into the statement around it, so that a text or a vector is read only for
    rows where a predicate asks for it.
    """
    declared = target.declared
    columns: list[sql.Composable] = [
        sql.SQL("{} AS {}").format(sql.Identifier(column.name), sql.Identifier(f"key_{position}"))
        for position, column in enumerate(target.key, start=1)
    ]
    columns += [
        sql.SQL("{} AS tenant").format(tenant_of(target)),
        sql.SQL("{} AS text").format(text_of(target)),
        sql.SQL("{} AS embedding").format(sql.Identifier(target.embedding.name)),
        sql.SQL("{} AS created_at").format(time_of(declared.created_at)),
    ]
    names, conditions = columns_of(target).custom, expressions_of(target).custom
    columns += [
        sql.SQL("{} AS {}").format(condition, names[name]) for name, condition in conditions.items()
    ]
    return sql.SQL(
        """(
    SELECT own.*,
           {pending} AS pending,
           {embeddable} AS embeddable
    FROM (
        SELECT {columns}
        FROM {table}
        WHERE {where}
    ) AS own
)"""
    ).format(
        pending=_pending(target, sql.SQL("own.created_at")),
        embeddable=_embeddable(sql.SQL("own.text")),
        columns=sql.SQL(",\n               ").join(columns),
        table=target.identifier,
        where=sql.SQL("true") if declared.where is None else embed_sql(declared.where),
    )


def tenant_of(target: Target) -> sql.Composable:
    """SQL of a row's tenant as text: the declared expression, the name's part, or NULL for none."""
    if target.tenant_part is not None:
        return sql.SQL("{}::text").format(sql.Literal(target.tenant_part))
    if target.declared.tenant is None:
        return sql.SQL("NULL::text")
    return sql.SQL("{}::text").format(embed_sql(target.declared.tenant))


def text_of(target: Target) -> sql.Composable:
    """SQL of the text that a row's embedding stands for."""
    return sql.SQL("{}::text").format(embed_sql(target.declared.text))


def time_of(source: str | None) -> sql.Composable:
    """SQL of a declared time; NULL for none."""
    if source is None:
        return sql.SQL("NULL::timestamptz")
    return sql.SQL("{}::timestamptz").format(embed_sql(source))


def _embeddable(text: sql.Composable) -> sql.Composable:
    # Collation "C": the same characters are blank on every server, ASCII's white space.
    return sql.SQL("({} COLLATE \"C\" ~ '[^[:space:]]') IS TRUE").format(text)


def _pending(target: Target, created_at: sql.Composable) -> sql.Composable:
    grace = target.declared.grace
    if grace is None:
        return sql.SQL("false")
    return sql.SQL("({} > now() - {}::interval) IS TRUE").format(
        created_at, sql.Literal(f"{grace.total_seconds():g} seconds")
    )
