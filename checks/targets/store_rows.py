"""Joins a table's rows to those of its store, with each side's expressions in its own scope.

Builds SQL only; runs nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.expressions import embed_sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from checks.database.catalog import Column
    from checks.targets.stores import SourceTable, StoreTable
    from checks.targets.target import Target

OWN = sql.Identifier("integrity_own")
"""What the table's own rows are called beside those of its store."""

STORE = sql.Identifier("store")
"""What the store's rows are called; users' own checks say `store.column`."""


def own_column(name: str) -> sql.Identifier:
    """A column of the table's own row."""
    return sql.Identifier("integrity_own", name)


def store_column(name: str) -> sql.Identifier:
    """A column of the store's row."""
    return sql.Identifier("store", name)


def same_key(
    own_key: Sequence[Column], key: Sequence[Column], *, numbered: bool = False
) -> sql.Composed:
    """The condition that a row called `OWN` and one called `STORE` belong together.

    `numbered` where the own row's key is called integrity_key_1 … n.
    """
    return sql.SQL(" AND ").join(
        sql.SQL("{} {} {}").format(
            store_column(theirs.name),
            theirs.operator("=", ours),
            own_column(f"integrity_key_{position}" if numbered else ours.name),
        )
        for position, (ours, theirs) in enumerate(zip(own_key, key, strict=True), start=1)
    )


def meant(store: StoreTable, rows: sql.Identifier = STORE) -> list[sql.Composable]:
    """The conditions of the entry's rows of a store, in a statement that calls its rows `rows`."""
    where = _where(store)
    # In a scope of its own: beside it stand columns of other tables.
    own_scope = sql.SQL("(SELECT {} FROM (SELECT {}.*) AS {}) IS TRUE")
    return [
        *(
            sql.SQL("{}.{} {} {}").format(
                rows, sql.Identifier(name), store.relation.columns[name].operator("="), value
            )
            for name, value in constant_values(store).items()
        ),
        *([] if where is None else [own_scope.format(where, rows, STORE)]),
    ]


def _where(store: StoreTable) -> sql.Composable | None:
    where = store.declared.where
    return None if where is None else _evaluated(store, embed_sql(where))


def _evaluated(store: StoreTable, source: sql.Composable) -> sql.Composable:
    """SQL of the settings over the store's columns, for the rows that the target is restricted to.

    In CASE, as the order in which conditions of a WHERE are evaluated is the planner's to choose.
    """
    if store.evaluated is None:
        return source
    return sql.SQL("(CASE WHEN {} THEN {} END)").format(store.evaluated, source)


def meant_alone(store: StoreTable) -> sql.Composable:
    """The same condition in a statement whose only rows are the store's, called `STORE`."""
    where = _where(store)
    constants = meant(replace(store, declared=store.declared.model_copy(update={"where": None})))
    return sql.SQL(" AND ").join([*constants, sql.SQL("true") if where is None else where])


def constant_values(store: StoreTable) -> dict[str, sql.Composable]:
    """SQL of the constants, each of its column's type."""
    columns = store.relation.columns
    return {
        name: sql.SQL("{}::{}").format(embed_sql(value), sql.SQL(columns[name].full_type))
        for name, value in store.constants.items()
    }


def held_rows(store: StoreTable, more: Sequence[sql.Composable] = ()) -> sql.Composable:
    """The entry's rows of a store as a relation, with `more` after its columns.

    A table's have their places too, as they have in the table itself.
    """
    if not store.restricted and not more:
        return store.identifier
    columns = [sql.SQL("{}.*").format(STORE), *more]
    if store.relation.has_places:
        columns += [store_column("tableoid"), store_column("ctid")]
    return sql.SQL("(SELECT {columns} FROM {name} AS {store} WHERE {where})").format(
        columns=sql.SQL(", ").join(columns),
        name=store.identifier,
        store=STORE,
        where=meant_alone(store),
    )


def own_rows(
    target: Target, columns: Iterable[sql.Composable], where: sql.Composable
) -> sql.Composed:
    """The table's rows in the declared scope, as `OWN`: its own columns and those given.

    A subselect of its own, so that a name without a table means the table's own column even where
    the store has one of the same name.
    """
    return sql.SQL("(SELECT {columns} FROM {table} WHERE {where}) AS {own}").format(
        columns=sql.SQL(", ").join([_all_of(target), *columns]),
        table=target.identifier,
        where=where,
        own=OWN,
    )


def joined_rows(
    target: Target, store: StoreTable, own: sql.Composable, custom: Sequence[sql.Composable]
) -> sql.Composed:
    """`own` with the row of the store, if any, and `custom`, conditions named custom_1 … custom_n.

    The store's text, where it is declared, is `store.integrity_text`.
    """
    text = store.declared.text
    kept = sql.SQL("{}::text AS integrity_text")
    held = held_rows(
        store, [] if text is None else [kept.format(_evaluated(store, embed_sql(text)))]
    )
    joined = sql.SQL("{own}\n        LEFT JOIN {held} AS {store} ON {same}").format(
        own=own, held=held, store=STORE, same=same_key(target.key, store.key, numbered=True)
    )
    if not custom:
        return joined
    return sql.SQL(
        "{joined}\n        CROSS JOIN LATERAL (SELECT {custom} FROM {scope}) AS integrity_custom"
    ).format(joined=joined, custom=sql.SQL(", ").join(custom), scope=_scope(target))


def store_row_is_there(store: StoreTable) -> sql.Composable:
    """SQL that is true of a row with a row in the store: only a joined row has the store's key."""
    return sql.SQL("({} IS NOT NULL)").format(store_column(store.declared.key[0]))


def source_is_gone(target: Target, source: SourceTable) -> sql.Composed:
    """True of a row of the table, unaliased, without a row of its source; NULL matches none."""
    return sql.SQL("NOT EXISTS (SELECT FROM {} AS integrity_source WHERE {})").format(
        source.identifier,
        sql.SQL(" AND ").join(
            sql.SQL("{} {} {}").format(
                sql.Identifier("integrity_source", theirs),
                source.relation.columns[theirs].operator("=", target.facts.columns[ours]),
                sql.Identifier(target.facts.name, ours),
            )
            for ours, theirs in zip(source.declared.source_key, source.declared.key, strict=True)
        ),
    )


def beside_store(
    target: Target, store: StoreTable
) -> Callable[[sql.Composable, sql.Composable], sql.Composed]:
    """Builds the statement that plans a condition of a user's own check in its final scope."""

    def around(relation: sql.Composable, condition: sql.Composable) -> sql.Composed:
        return sql.SQL(
            "SELECT FROM {relation} AS {own} LEFT JOIN {held} AS {store} ON {same}"
            " CROSS JOIN LATERAL (SELECT FROM {scope} WHERE {condition}) AS planned LIMIT 0"
        ).format(
            relation=relation,
            own=OWN,
            held=store.identifier,
            store=STORE,
            same=same_key(target.key, store.key),
            scope=_scope(target),
            condition=condition,
        )

    return around


def _all_of(target: Target) -> sql.Composed:
    return sql.SQL("{}.*").format(sql.Identifier(target.facts.name))


def _scope(target: Target) -> sql.Composed:
    """The own row again, one level further in, so that its columns hide the store's."""
    name = target.facts.name
    # A table that is itself called `store` gives the name up to its store.
    alias = OWN if name == "store" else sql.Identifier(name)
    return sql.SQL("(SELECT {own}.*) AS {alias}").format(own=OWN, alias=alias)
