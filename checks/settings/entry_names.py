"""Names the [[tables]] entries: each by its table, and further where several share one.

An entry is a table and the place of its embeddings: a column, or some rows of a store.
"""

from __future__ import annotations

from collections import defaultdict
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
        str(table.name) + (place_in(table) if len(places[table.name]) > 1 else "")
        for table in tables
    )


def place_in(table: Table) -> str:
    """Where an entry has its embeddings, to follow on the table's name: `.title_embedding`."""
    store = table.store
    if store is None:
        return f".{display_identifier(table.embedding)}"
    fixed = [f"{display_identifier(name)} = {value}" for name, value in store.constants.items()]
    rows = " and ".join([*fixed, *([] if store.where is None else [store.where])])
    column = display_identifier(store.embedding)
    return f" (in {store.name}.{column}{f' where {rows}' if rows else ''})"
