"""Names the [[tables]] entries: each by its table, and further where several share one.

An entry is a table and the place of its embeddings: a column, or some rows of a store. Where
several entries have one place, each is about some of the table's rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from checks.settings.names import display_identifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.settings.names import TableName
    from checks.settings.tables import Table


def entry_names(tables: Sequence[Table]) -> tuple[str, ...]:
    """What each entry is called: its table as declared, with its place where others share it."""
    places: dict[TableName, set[str]] = defaultdict(set)
    for table in tables:
        places[table.name].add(place_in(table))
    return tuple(
        str(table.name) + (place_in(table) if len(places[table.name]) > 1 else "") + rows
        for table, rows in zip(tables, rows_in(tables), strict=True)
    )


def rows_in(tables: Sequence[Table]) -> tuple[str, ...]:
    """Which rows each entry is about, to follow on its place, where others are about others."""
    entries = Counter((table.name, place_in(table)) for table in tables)
    return tuple(
        ""
        if entries[table.name, place_in(table)] == 1
        else " (all other rows)"
        if table.where is None
        else f" (where {table.where})"
        for table in tables
    )


def told_apart(tables: Sequence[Table]) -> tuple[Table, ...]:
    """The entries, each without the rows of an earlier one of its table and place.

    So no row is in two of them, whatever their conditions say, and is embedded by turns.
    """
    taken: dict[tuple[TableName, str], list[str]] = defaultdict(list)
    apart = []
    for table in tables:
        earlier = taken[table.name, place_in(table)]
        # A condition may end in a comment, which would swallow the parenthesis.
        end = "\n" if "--" in (table.where or "") else ""
        own = [] if table.where is None else [f"({table.where}{end})"]
        where = " AND ".join([*own, *(f"{condition} IS NOT TRUE" for condition in earlier)])
        apart.append(table.model_copy(update={"where": where}) if earlier else table)
        earlier += own
    return tuple(apart)


def place_in(table: Table) -> str:
    """Where an entry has its embeddings, to follow on the table's name: `.title_embedding`."""
    store = table.store
    if store is None:
        return f".{display_identifier(table.embedding)}"
    fixed = [f"{display_identifier(name)} = {value}" for name, value in store.constants.items()]
    rows = " and ".join([*fixed, *([] if store.where is None else [store.where])])
    column = display_identifier(store.embedding)
    return f" (in {store.name}.{column}{f' where {rows}' if rows else ''})"
