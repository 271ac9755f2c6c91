"""Builds the SQL of what a declaration says of a row: tenant, text, times, tags.

Builds expressions only; runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.expressions import embed_sql
from checks.targets.provenance import hash_type_of, kept_text
from checks.targets.store_rows import own_column, source_is_gone, store_column

if TYPE_CHECKING:
    from checks.targets.stores import PlacedColumn
    from checks.targets.target import Target


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


def updated_at_of(target: Target) -> sql.Composable | None:
    """SQL of the time of a row's last edit; None where none is declared, as for all words below."""
    declared = target.declared.updated_at
    return None if declared is None else time_of(declared)


def embedded_at_of(target: Target) -> sql.Composable | None:
    """SQL of the time at which a row's text was embedded."""
    held = target.provenance_column("embedded_at")
    return None if held is None else sql.SQL("{}::timestamptz").format(_held(target, held))


def content_hash_of(target: Target) -> sql.Composable | None:
    """SQL of the md5 of the text that was embedded, as md5() writes it."""
    held = target.provenance_column("content_hash")
    return None if held is None else hash_type_of(held.column).as_text(_held(target, held))


def model_of(target: Target) -> sql.Composable | None:
    """SQL of the name of the model that a row's text was embedded with."""
    held = target.provenance_column("model_column")
    return None if held is None else sql.SQL("{}::text").format(_held(target, held))


def declared_model_of(target: Target, tenant: sql.Composable) -> sql.Composable:
    """SQL of the name of the model that a tenant's rows ought to be embedded with."""
    own = target.declared.tenant_models
    if not own:
        return sql.Literal(target.model)
    cases = sql.SQL(" ").join(
        sql.SQL("WHEN {} THEN {}").format(sql.Literal(name), sql.Literal(model))
        for name, model in own.items()
    )
    return sql.SQL("CASE {} {} ELSE {} END").format(tenant, cases, sql.Literal(target.model))


def beside_vector_of(target: Target) -> sql.Composable:
    """SQL of what stands in the columns that a write sets with a vector, an array of texts."""
    kept = (kept_text(_held(target, held)) for held in target.written_beside)
    return sql.SQL("ARRAY[{}]::text[]").format(sql.SQL(", ").join(kept))


def embedded_text_of(target: Target) -> sql.Composable | None:
    """SQL of the text that was embedded, as the store keeps it; None where it keeps pieces."""
    if target.store is None or target.store.declared.text is None or target.repeats:
        return None
    return store_column("integrity_text")


def orphaned_of(target: Target) -> sql.Composable | None:
    """SQL that is true of a row whose source row is gone, or that names none."""
    return None if target.source is None else source_is_gone(target, target.source)


def _held(target: Target, held: PlacedColumn) -> sql.Identifier:
    name = held.column.name
    if target.store is None:
        return sql.Identifier(name)
    return store_column(name) if held.in_store else own_column(name)


def scope_of(target: Target) -> sql.Composable:
    """The condition of the rows that ought to be whole."""
    where = target.declared.where
    return sql.SQL("true") if where is None else embed_sql(where)


def embeddable_of(text: sql.Composable) -> sql.Composable:
    """SQL that is true of a text that is not blank."""
    # Collation "C": the same characters are blank on every server, ASCII's white space.
    return sql.SQL("({} COLLATE \"C\" ~ '[^[:space:]]') IS TRUE").format(text)


def pending_of(target: Target, created_at: sql.Composable) -> sql.Composable:
    """SQL that is true of a row younger than its grace."""
    grace = target.declared.grace
    if grace is None:
        return sql.SQL("false")
    return sql.SQL("({} > now() - {}::interval) IS TRUE").format(
        created_at, sql.Literal(f"{grace.total_seconds():g} seconds")
    )
