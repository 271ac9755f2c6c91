"""Finds the tables beside a declared one: the store of its embeddings, the source of chunks.

Says which relations they are; `checks.targets.store_problems` says what is wrong with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from psycopg import sql

from checks.settings.names import display_identifier, parse_identifier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from checks.database.catalog import Column, Relation, RelationName
    from checks.settings.names import Match, TableName
    from checks.settings.tables import Source, Store, Table


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacedColumn:
    """A declared column, and whether it is the store's or the table's own."""

    column: Column
    in_store: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreTable:
    """The table that holds the embeddings of another one."""

    declared: Store
    name: str
    relation: Relation
    constants: Mapping[str, str] = field(default_factory=dict)
    """SQL of the value that the entry's rows have in each of these columns, beside the key."""
    evaluated: sql.Composable | None = None
    """As the target's of this name, on the store's key."""

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.relation.schema, self.relation.name)

    @property
    def restricted(self) -> bool:
        """Whether other rows of it are the embeddings of something else."""
        return bool(self.constants) or self.declared.where is not None

    @property
    def key(self) -> tuple[Column, ...]:
        """The columns that match the table's key, in its order."""
        return tuple(self.relation.columns[name] for name in self.declared.key)

    @property
    def unique_columns(self) -> tuple[str, ...] | None:
        """Columns of key and constants under a unique index; None where a key may stand twice."""
        return next(
            (
                unique
                for unique in self.relation.unique_keys
                if unique and set(unique) <= {*self.declared.key, *self.constants}
            ),
            None,
        )

    @property
    def text_column(self) -> str | None:
        """The column that keeps the embedded text, where `text` is a column a repair can write."""
        try:
            name = parse_identifier(self.declared.text or "")
        except ValueError:
            return None
        return name if name in self.relation.columns else None

    @property
    def unfilled(self) -> tuple[str, ...]:
        """NOT NULL columns that an inserted row would leave without a value."""
        declared = self.declared
        filled = {
            *declared.key,
            *declared.insert,
            *self.constants,
            declared.embedding,
            declared.model_column,
            declared.embedded_at,
            declared.content_hash,
            self.text_column,
        }
        return tuple(
            name
            for name, column in self.relation.columns.items()
            if column.not_null and not column.has_default and name not in filled
        )

    @property
    def unrepairable(self) -> str | None:
        """Why no repair can write to the store, or None."""
        if not self.relation.writable_kind:
            return f"{self.name} is no table, and can be checked but not repaired"
        if self.unique_columns is None:
            return f"{self.name} {MAY_REPEAT}; a repair needs a unique index on its key"
        if self.unfilled:
            names = ", ".join(display_identifier(name) for name in self.unfilled)
            return (
                f"a new row of {self.name} needs a value for {names}; declare one with"
                ' insert = { column = "SQL" } in [tables.store]'
            )
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceTable:
    """The table that a chunk table's rows were cut from."""

    declared: Source
    name: str
    relation: Relation

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.relation.schema, self.relation.name)


MAY_REPEAT = "may hold several rows of one key"


class Names:
    """The relations of a database by name; built once, asked for thousands of tables."""

    def __init__(self, names: Sequence[RelationName]) -> None:
        self._all = {(found.schema, found.name): found for found in names}
        self._visible = {found.name: found for found in names if found.visible}

    def find(self, name: TableName) -> RelationName | None:
        """The relation of an exact name; without a schema, by the search path."""
        if name.schema is None:
            return self._visible.get(name.name)
        return self._all.get((name.schema, name.name))


def names_beside(table: Table, found: RelationName | Relation) -> Mapping[str, TableName]:
    """The names of a table's store and source, by section, with `*` replaced as in the table's."""
    match = table.name.match(found.schema, found.name)
    sections = {"store": table.store, "source": table.source}
    return {
        section: _filled(declared.name, match)
        for section, declared in sections.items()
        if declared is not None
    }


def _filled(name: TableName, match: Match | None) -> TableName:
    return name if match is None else name.filled(match)
