"""The rows of a target as one SQL relation, in the words of the settings: key, tenant, text, embedding.

Every predicate is written over this relation, whatever the user's columns are called.
Builds SQL only; runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.expressions import embed_sql

if TYPE_CHECKING:
    from checks.targets import Target


def rows_of(target: Target) -> sql.Composed:
    """A parenthesised subselect with the columns below, over the rows that ought to be whole.

    key_1 … key_n, tenant (text), text (text), embedding, created_at (timestamptz or NULL),
    pending (younger than its grace), embeddable (its text is not blank), and a boolean
    `custom_<name>` for each of the user's own checks.

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
        sql.SQL("{} AS created_at").format(_time(declared.created_at)),
    ]
    columns += [
        sql.SQL("{} IS TRUE AS {}").format(
            embed_sql(check.failing_when), sql.Identifier(f"custom_{check.name}")
        )
        for check in declared.custom
    ]
    return sql.SQL(
        """(
    SELECT own.*,
           {pending} AS pending,
           (own.text COLLATE "C" ~ '[^[:space:]]') IS TRUE AS embeddable
    FROM (
        SELECT {columns}
        FROM {table}
        WHERE {where}
    ) AS own
)"""
    ).format(
        pending=_pending(target),
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


def _time(source: str | None) -> sql.Composable:
    if source is None:
        return sql.SQL("NULL::timestamptz")
    return sql.SQL("{}::timestamptz").format(embed_sql(source))


def _pending(target: Target) -> sql.Composable:
    grace = target.declared.grace
    if grace is None:
        return sql.SQL("false")
    return sql.SQL("(own.created_at > now() - {}::interval) IS TRUE").format(
        sql.Literal(f"{grace.total_seconds()} seconds")
    )
