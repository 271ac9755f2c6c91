"""Describes a declared table as the catalog shows it: text, embedding, key, provenance.

Values only. A target with a blocking problem cannot be scanned; one with any is never repaired.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.vectors.types import EMBEDDING_TYPES, EmbeddingType
from checks.targets.stores import PlacedColumn

if TYPE_CHECKING:
    from datetime import datetime

    from checks.database.catalog import Column, Relation
    from checks.database.server import Server
    from checks.settings.tables import ProvenanceColumn, Table
    from checks.targets.relation_problems import Problem
    from checks.targets.stores import SourceTable, StoreTable
    from checks.targets.unreadable_rows import UnreadableRows


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One concrete table of a declaration, with everything a statement about it needs."""

    declared: Table
    name: str
    """Its table's name, and the place of its embeddings where several entries share the table."""
    entry: str
    """What its entry in the settings is called."""
    server: Server
    model: str
    model_dimensions: int
    """Of the vectors that the model gives."""
    relation: Relation | None = None
    store: StoreTable | None = None
    """The table that holds its embeddings, where that is another one."""
    source: SourceTable | None = None
    """The table that its rows were cut from."""
    store_is_shared: bool = False
    """Whether other declared tables have embeddings in the same store."""
    siblings: tuple[Target, ...] = ()
    """The entries whose vectors stand in the same column, each without siblings of its own."""
    place: str = ""
    """What its name says beyond the table's."""
    tenant_part: str | None = None
    """The tenant of all rows where it is the schema's or the table's name."""
    changed_since: datetime | None = None
    """Only rows that changed at this time or later are looked at and repaired; None: all."""
    undated: bool = False
    """Whether changed rows alone were asked for, and no time of a row is declared."""
    evaluated: sql.Composable | None = None
    """A condition on the key: expressions of the settings are evaluated for these rows, and no
    other is looked at; None: all."""
    unreadable: UnreadableRows | None = None
    """The rows that are left out by this, as an expression raises an error for them."""
    problems: tuple[Problem, ...] = ()
    index_faults: tuple[str, ...] = ()
    """What is wrong with its declared index, in words, with the statements that mend it."""

    def model_of(self, tenant: str | None) -> str:
        """The declared model of a tenant: its own, else the table's."""
        return self.declared.tenant_models.get(tenant or "", self.model)

    def since(self, moment: datetime) -> Target:
        """The same target restricted to rows that changed at a moment or later.

        Rows that were pending then count as changed when their grace ended. Without a time that
        tells changes, the whole target.
        """
        declared = self.declared
        if not (declared.created_at or declared.updated_at or declared.declares("embedded_at")):
            return replace(self, undated=True)
        siblings = tuple(sibling.since(moment) for sibling in self.siblings)
        since = moment - (declared.grace or timedelta(0))
        return replace(self, changed_since=since, siblings=siblings)

    @property
    def absent(self) -> bool:
        """Whether it is declared with `required = false` and not there."""
        return self.relation is None and not self.problems

    @property
    def scannable(self) -> bool:
        return self.relation is not None and not any(p.blocks for p in self.problems)

    @property
    def facts(self) -> Relation:
        """The relation's facts; only for a target that has one."""
        if self.relation is None:
            raise LookupError(f"{self.name} is not in the database")
        return self.relation

    @property
    def expected_tenants(self) -> tuple[str, ...]:
        """The declared tenants that must have rows here."""
        if self.declared.tenant_from is None:
            return self.declared.tenants
        return tuple(name for name in self.declared.tenants if name == self.tenant_part)

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.facts.schema, self.facts.name)

    @property
    def holder(self) -> Relation:
        """The relation that holds the embeddings: the store's, or its own."""
        return self.facts if self.store is None else self.store.relation

    @property
    def embedding(self) -> Column:
        beside = self.declared.store
        return self.holder.columns[(beside or self.declared).embedding]

    @property
    def dimensions(self) -> int:
        """Of the vectors that are stored: the column's, or the number declared, where padded."""
        pad = self.declared.pad
        if not pad or self.relation is None:
            return self.model_dimensions
        if pad is not True:
            return max(self.model_dimensions, pad)
        beside = self.declared.store
        if beside is not None and self.store is None:
            return self.model_dimensions
        column = self.holder.columns.get((beside or self.declared).embedding)
        return max(self.model_dimensions, (column and column.dimension) or 0)

    @property
    def padded(self) -> bool:
        """Whether a stored vector ends in zeros by design."""
        return self.dimensions > self.model_dimensions

    @property
    def ann_indexed(self) -> bool:
        """Whether an ANN index holds the embeddings, and is written with each of them."""
        return self.embedding.name in self.holder.ann_indexed

    def provenance_column(self, setting: ProvenanceColumn) -> PlacedColumn | None:
        """The column declared for this provenance, the store's before the table's own."""
        if self.store is not None:
            name = getattr(self.store.declared, setting)
            if name is not None:
                return PlacedColumn(column=self.store.relation.columns[name], in_store=True)
        name = getattr(self.declared, setting)
        return (
            None if name is None else PlacedColumn(column=self.facts.columns[name], in_store=False)
        )

    @property
    def written_beside(self) -> tuple[PlacedColumn, ...]:
        """The declared columns that a write of a vector sets with it, each once.

        A generated hash follows the text by itself, and cannot be set.
        """
        settings: tuple[ProvenanceColumn, ...] = ("model_column", "embedded_at", "content_hash")
        declared = (self.provenance_column(setting) for setting in settings)
        found = {held.column.name: held for held in declared if held is not None}
        return tuple(held for held in found.values() if not held.column.generated)

    @property
    def repeats(self) -> bool:
        """Whether a row may have several embeddings: then nothing is repaired, only reported."""
        return self.store is not None and self.store.unique_columns is None

    @property
    def text_is_known(self) -> bool:
        """Whether each embedding's text is known; a store that repeats keys holds pieces of it."""
        return not self.repeats or (self.store is not None and self.store.declared.text is not None)

    @property
    def row_security(self) -> bool:
        """Whether row-level security is in force for this role on any table that is read."""
        beside = [place.relation for place in (self.store, self.source) if place is not None]
        return any(relation.row_security for relation in (self.facts, *beside)) or any(
            sibling.row_security for sibling in self.siblings
        )

    @property
    def embedding_type(self) -> EmbeddingType:
        return EMBEDDING_TYPES[self.embedding.type]

    @property
    def key(self) -> tuple[Column, ...]:
        """The declared key, else the primary key."""
        return tuple(self.facts.columns[name] for name in self.key_names)

    @property
    def key_names(self) -> tuple[str, ...]:
        return self.declared.key or self.facts.primary_key

    @property
    def unrepairable(self) -> str | None:
        """Why no repair can write here, or None: a repair needs a table and a sound key."""
        relation = self.facts
        if self.store is not None:
            if self.store.unrepairable is not None:
                return self.store.unrepairable
            if (elsewhere := self._tagged_elsewhere()) is not None:
                return elsewhere
        elif not relation.writable_kind:
            return f"{self.name} is a {KINDS[relation.kind]}, which can be checked but not repaired"
        if not self.key_names:
            return f"{self.name} has no primary key; declare a unique key with `key = [...]`"
        if any(not column.not_null for column in self.key):
            return f"the key of {self.name} has nullable columns; a repair needs a NOT NULL key"
        if not any(set(unique) == set(self.key_names) for unique in relation.unique_keys):
            names = ", ".join(self.key_names)
            return (
                f"no unique, valid, non-partial index on ({names}) of {self.name};"
                " a repair needs one to address each row"
            )
        return None

    def _tagged_elsewhere(self) -> str | None:
        """Why a write to the store could not update its provenance, or None."""
        settings: tuple[ProvenanceColumn, ...] = ("model_column", "embedded_at", "content_hash")
        own = [
            setting
            for setting in settings
            if (held := self.provenance_column(setting)) is not None and not held.in_store
        ]
        if not own:
            return None
        return (
            f"{', '.join(own)} of {self.name} would not be written along with an embedding in"
            " another table; declare such columns of the store in [tables.store]"
        )


KINDS = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialised view",
    "f": "foreign table",
}
