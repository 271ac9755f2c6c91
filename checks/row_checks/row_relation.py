"""Writes the rows of a target as one SQL relation, in the words of the settings.

Every predicate is written in these words, whatever the user's columns are called.
Builds SQL only; runs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.expressions import embed_sql
from checks.row_checks.row_expressions import (
    beside_vector_of,
    changed_of,
    content_hash_of,
    embeddable_of,
    embedded_at_of,
    embedded_text_of,
    evaluated,
    model_of,
    norm_of,
    orphaned_of,
    pending_of,
    scope_of,
    tenant_of,
    text_hash_of,
    text_of,
    time_of,
    updated_at_of,
)
from checks.row_checks.text_parts import text_parts_of
from checks.targets.store_rows import (
    joined_rows,
    own_column,
    own_rows,
    store_column,
    store_row_is_there,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import LiteralString

    from checks.targets.stores import StoreTable
    from checks.targets.target import Target

NORM = sql.SQL("norm")
"""The column of `rows_of` that `norm_of` tells of."""

PENDING = sql.SQL("embedding IS NULL AND embeddable AND pending")
"""True of a row that lacks its embedding and is within its grace, over the columns of `rows_of`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowWords:
    """SQL for each word a predicate may use of a row."""

    tenant: sql.Composable
    embedding: sql.Composable
    embeddable: sql.Composable
    """Its text is not blank."""
    past_grace: tuple[sql.Composable, ...]
    """Conditions of a row that is no longer pending; () where there is no grace."""
    text: sql.Composable
    updated_at: sql.Composable | None
    """As timestamptz; None where it is not declared, as for the words below."""
    embedded_at: sql.Composable | None
    content_hash: sql.Composable | None
    """As text, whatever the column's type."""
    text_hash: sql.Composable | None
    """What content_hash is where the text is unchanged."""
    model: sql.Composable | None
    """The tag that tells the model, as text."""
    embedded_text: sql.Composable | None
    """What was embedded, where a store with one row to a key keeps it."""
    orphaned: sql.Composable | None
    """Whether its source row is gone; None where no source is declared."""
    norm: sql.Composable | None
    """See `norm_of`; a predicate that reads it reads no other word of the row."""
    held_at: sql.Composable | None
    """Where the row stands that holds its embedding; None where no other entry may hold it too."""
    custom: Mapping[str, sql.Composable]
    """The condition of each of the user's own checks, by its name."""
    for_people: bool = False
    """Whether people read the SQL: then it leaves out what only makes it faster."""


def columns_of(target: Target) -> RowWords:
    """The words as columns of `rows_of`."""
    return RowWords(
        tenant=sql.SQL("tenant"),
        embedding=sql.SQL("embedding"),
        embeddable=sql.SQL("embeddable"),
        past_grace=() if target.declared.grace is None else (sql.SQL("NOT pending"),),
        text=sql.SQL("text"),
        updated_at=_named("updated_at", updated_at_of(target)),
        embedded_at=_named("embedded_at", embedded_at_of(target)),
        content_hash=_named("content_hash", content_hash_of(target)),
        text_hash=_named("text_hash", text_hash_of(target)),
        model=_named("model", model_of(target)),
        embedded_text=_named("embedded_text", embedded_text_of(target)),
        orphaned=_named("orphaned", orphaned_of(target)),
        norm=_named("norm", norm_of(target, sql.SQL("embedding"))),
        held_at=sql.SQL("held_at") if target.siblings else None,
        custom=_custom_columns(target),
    )


def expressions_of(target: Target) -> RowWords:
    """The same words as expressions over the user's own table, for a statement that people read.

    Beside a store they are the columns of `rows_of`: both tables may have a column of one name.
    """
    if target.store is not None:
        return replace(columns_of(target), for_people=True)
    return RowWords(
        tenant=tenant_of(target),
        embedding=sql.Identifier(target.embedding.name),
        embeddable=embeddable_of(text_of(target)),
        past_grace=()
        if target.declared.grace is None
        else (
            sql.SQL("NOT ({})").format(
                pending_of(target, time_of(target, target.declared.created_at))
            ),
        ),
        text=text_of(target),
        updated_at=updated_at_of(target),
        embedded_at=embedded_at_of(target),
        content_hash=content_hash_of(target),
        text_hash=text_hash_of(target),
        model=model_of(target),
        embedded_text=None,
        orphaned=orphaned_of(target),
        norm=norm_of(target, sql.Identifier(target.embedding.name)),
        held_at=None,
        custom={
            check.name: sql.SQL("{} IS TRUE").format(
                evaluated(target, embed_sql(check.failing_when))
            )
            for check in target.declared.custom
        },
        for_people=True,
    )


def rows_of(target: Target) -> sql.Composed:
    """A parenthesised subselect with the columns below, over the rows that ought to be whole,
    and changed since the target's `changed_since`.

    key_1 … key_n, tenant (text), text (text), text_parts (see `text_parts_of`), embedding,
    norm (see `norm_of`), created_at (timestamptz or NULL), updated_at, embedded_at (timestamptz),
    content_hash, text_hash, model, embedded_text (texts) and orphaned where they are declared,
    stored (whether there is a row that may hold its embedding), held_at (where that row stands as
    text, NULL in a view), beside_vector (an array of texts: what stands in the columns that a write
    sets with the vector), identity (the key in one piece of text, NULL without a key), pending
    (younger than its grace), embeddable (its text is not blank), a boolean custom_1 … custom_n for
    each of the user's own checks, group_1 … group_n (text) for the columns of `group_by`, and where
    `has_place` is true place_table, place and written_by (the transaction that wrote the row last,
    as text).

    Where a store may hold a key twice, there is a row for each of its rows.

    The planner folds it into the statement around it, so that a text or a vector is read only for
    rows where a predicate asks for it.
    """
    if target.store is None:
        columns = {**_plain_columns(target), **_embedding_columns(target)}
        words = expressions_of(target)
        columns |= {
            _custom_name(n): condition for n, condition in enumerate(words.custom.values(), start=1)
        }
        relation: sql.Composable = sql.SQL("{}\n        WHERE {}").format(
            target.identifier, scope_of(target)
        )
        if has_place(target):
            # The row's place, by which a statement finds it again at no cost.
            columns |= {
                "place_table": sql.SQL("tableoid"),
                "place": sql.SQL("ctid"),
                "written_by": sql.SQL("xmin::text"),
            }
    else:
        columns = _columns_beside(target, target.store)
        relation = _rows_beside(target, target.store)
    return sql.SQL(
        """(
    SELECT own.*,
           {identity} AS identity,
           {pending} AS pending,
           {embeddable} AS embeddable
    FROM (
        SELECT {columns}
        FROM {relation}
    ) AS own{changed}
)"""
    ).format(
        changed=_where_changed(target),
        identity=_identity_of(target),
        pending=pending_of(target, sql.SQL("own.created_at")),
        embeddable=embeddable_of(sql.SQL("own.text")),
        columns=sql.SQL(",\n               ").join(_as(columns)),
        relation=relation,
    )


def _where_changed(target: Target) -> sql.Composable:
    if target.changed_since is None:
        return sql.SQL("")
    return sql.SQL("\n    WHERE {}").format(
        changed_of(
            target,
            created_at=_time_in("created_at", target.declared.created_at),
            updated_at=_time_in("updated_at", updated_at_of(target)),
            embedded_at=_time_in("embedded_at", embedded_at_of(target)),
        )
    )


def _time_in(name: LiteralString, declared: object) -> sql.Composable | None:
    return None if declared is None else sql.SQL("own.{}").format(sql.Identifier(name))


def has_place(target: Target) -> bool:
    """Whether `rows_of` has the place of each row: for a table, not for a view or a join."""
    return target.store is None and target.facts.has_places


def group_names(target: Target) -> tuple[str, ...]:
    """The columns of `rows_of` for those of `group_by`, in their order."""
    return tuple(f"group_{n}" for n, _ in enumerate(target.declared.group_by, start=1))


def _identity_of(target: Target) -> sql.Composable:
    if not target.key:
        return sql.SQL("NULL::text")
    keys = [
        sql.SQL("own.{}::text").format(sql.Identifier(f"key_{position}"))
        for position in range(1, len(target.key) + 1)
    ]
    return sql.SQL("ROW({})::text").format(sql.SQL(", ").join(keys))


def _as(columns: Mapping[str, sql.Composable], prefix: str = "") -> list[sql.Composable]:
    return [
        sql.SQL("{} AS {}").format(expression, sql.Identifier(prefix + name))
        for name, expression in columns.items()
    ]


def _plain_columns(target: Target) -> dict[str, sql.Composable]:
    """What is read from the table's own row, by its name in `rows_of`."""
    columns: dict[str, sql.Composable] = {
        f"key_{position}": sql.Identifier(column.name)
        for position, column in enumerate(target.key, start=1)
    }
    columns["tenant"] = tenant_of(target)
    columns["text"] = text_of(target)
    columns["text_parts"] = text_parts_of(target)
    columns["created_at"] = time_of(target, target.declared.created_at)
    columns |= {
        name: sql.SQL("{}::text").format(sql.Identifier(column))
        for name, column in zip(group_names(target), target.declared.group_by, strict=True)
    }
    optional = {
        "text_hash": text_hash_of(target),
        "updated_at": updated_at_of(target),
        "orphaned": orphaned_of(target),
    }
    return columns | {name: word for name, word in optional.items() if word is not None}


def _embedding_columns(target: Target) -> dict[str, sql.Composable]:
    """What is read from the row that holds the embedding."""
    name = target.embedding.name
    columns: dict[str, sql.Composable] = {
        "embedding": sql.Identifier(name) if target.store is None else store_column(name),
        "stored": sql.SQL("true") if target.store is None else store_row_is_there(target.store),
        "held_at": _place_of_holder(target),
        "beside_vector": beside_vector_of(target),
    }
    optional = {
        "norm": norm_of(target, columns["embedding"]),
        "embedded_at": embedded_at_of(target),
        "content_hash": content_hash_of(target),
        "model": model_of(target),
        "embedded_text": embedded_text_of(target),
    }
    return columns | {name: word for name, word in optional.items() if word is not None}


def _place_of_holder(target: Target) -> sql.Composable:
    if not target.holder.has_places:
        return sql.SQL("NULL::text")
    names = ("tableoid", "ctid")
    places = map(sql.Identifier if target.store is None else store_column, names)
    return sql.SQL("ROW({})::text").format(sql.SQL(", ").join(places))


def _columns_beside(target: Target, store: StoreTable) -> dict[str, sql.Composable]:
    columns: dict[str, sql.Composable] = {
        name: own_column(f"integrity_{name}") for name in _plain_columns(target)
    }
    if target.repeats and store.declared.text is not None:
        # Each of the store's rows has a text of its own.
        columns["text"] = sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(
            store_row_is_there(store), store_column("integrity_text"), columns["text"]
        )
        if (digest := text_hash_of(target, columns["text"])) is not None:
            columns["text_hash"] = digest
    columns |= _embedding_columns(target)
    names = _custom_columns(target).values()
    return columns | {
        _custom_name(n): sql.SQL("integrity_custom.{}").format(name)
        for n, name in enumerate(names, start=1)
    }


def _rows_beside(target: Target, store: StoreTable) -> sql.Composable:
    conditions = {
        _custom_name(n): sql.SQL("{} IS TRUE").format(
            evaluated(target, embed_sql(check.failing_when))
        )
        for n, check in enumerate(target.declared.custom, start=1)
    }
    return joined_rows(target, store, own_rows_of(target), _as(conditions))


def own_rows_of(target: Target, more: Mapping[str, sql.Composable] | None = None) -> sql.Composed:
    """A table's own rows beside its store, as `integrity_own`: the declared scope, not the store.

    Its columns, and integrity_key_1 …, integrity_tenant, integrity_text and what else `rows_of`
    reads of them; `more` by their names.
    """
    columns = {**_plain_columns(target), **(more or {})}
    return own_rows(target, _as(columns, "integrity_"), scope_of(target))


def _custom_name(position: int) -> str:
    return f"custom_{position}"


def _named(name: LiteralString, source: sql.Composable | None) -> sql.Composable | None:
    return None if source is None else sql.SQL(name)


def _custom_columns(target: Target) -> dict[str, sql.Identifier]:
    return {
        check.name: sql.Identifier(_custom_name(position))
        for position, check in enumerate(target.declared.custom, start=1)
    }
