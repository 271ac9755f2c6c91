"""Declared tables held against the catalog: which relation each means, and what is not as declared.

A target with a blocking problem cannot be scanned; one with any problem is never repaired.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg import sql

from checks.catalog import read_relation_names, read_relations
from checks.names import display_identifier
from checks.problems import Problem, no_extension, problems_of
from checks.vectors import EMBEDDING_TYPES, EmbeddingType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.catalog import Column, Relation, RelationName, Server
    from checks.connection import Connection
    from checks.names import TableName
    from checks.settings import Settings, Table


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One concrete table of a declaration, with everything a statement about it needs."""

    declared: Table
    name: str
    server: Server
    model: str
    dimensions: int
    relation: Relation | None = None
    tenant_part: str | None = None
    """The tenant of all rows where it is the schema's or the table's name."""
    problems: tuple[Problem, ...] = ()

    @property
    def absent(self) -> bool:
        """Declared with `required = false`, and not there."""
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
    def embedding(self) -> Column:
        return self.facts.columns[self.declared.embedding]

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
        if not relation.writable_kind:
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


KINDS = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialised view",
    "f": "foreign table",
}


def resolve(connection: Connection, settings: Settings, server: Server) -> tuple[Target, ...]:
    """The targets of every declaration, in its order, with the problems the catalog shows."""
    names = read_relation_names(connection)
    exact = {
        found.oid
        for table in settings.tables
        if not table.name.is_pattern
        for found in _matching(table, names)
    }
    matched = [
        (table, [found for found in _matching(table, names) if _wanted(table, found, exact)])
        for table in settings.tables
    ]
    oids = [found.oid for _, relations in matched for found in relations]
    relations = read_relations(connection, oids)
    targets: dict[str, Target] = {}
    for table, found_names in matched:
        bare = Target(
            declared=table,
            name=str(table.name),
            server=server,
            model=settings.model_for(table),
            dimensions=settings.dimensions_for(table),
        )
        if not found_names:
            targets.setdefault(bare.name, _missing(bare, names))
        for found in found_names:
            target = replace(
                bare,
                name=display_name(found.schema, found.name),
                relation=relations[found.oid],
                tenant_part=_tenant_part(table, found),
            )
            if (first := targets.get(target.name)) is not None:
                targets[target.name] = _declared_twice(first, table)
                continue
            targets[target.name] = replace(target, problems=problems_of(connection, target))
        for target in _vanished(bare, found_names):
            targets.setdefault(target.name, target)
    return tuple(targets.values())


def display_name(schema: str, name: str) -> str:
    """A qualified name as a person would write it in SQL: quoted only where it must be."""
    return f"{display_identifier(schema)}.{display_identifier(name)}"


def _declared_twice(first: Target, second: Table) -> Target:
    text = (
        f"{first.name} is declared by two entries, {first.declared.name} and {second.name};"
        " the first one is checked: keep one, or narrow a pattern"
    )
    return replace(first, problems=(*first.problems, Problem(text=text, blocks=False)))


def _vanished(bare: Target, found_names: Sequence[RelationName]) -> list[Target]:
    """Declared tenants, of those that a name's `*` stands for, whose table is not there."""
    declared = bare.declared
    if declared.tenant_from is None or not found_names or not declared.required:
        return []
    present = {_tenant_part(declared, found) for found in found_names}
    return [
        replace(
            bare,
            name=_name_for(declared, tenant),
            tenant_part=tenant,
            problems=(
                Problem(
                    text=(
                        f"declared tenant {tenant!r} has no table:"
                        f" {_name_for(declared, tenant)} does not exist in database"
                        f" {bare.server.database!r}"
                    )
                ),
            ),
        )
        for tenant in declared.tenants
        if tenant not in present
    ]


def _name_for(table: Table, tenant: str) -> str:
    """The name that a pattern gives for a tenant."""
    schema, name = table.name.schema, table.name.name
    if table.tenant_from == "schema" and schema is not None:
        schema = schema.replace("*", tenant)
    elif table.tenant_from == "table":
        name = name.replace("*", tenant)
    parts = [part for part in (schema, name) if part is not None]
    return ".".join(part if "*" in part else display_identifier(part) for part in parts)


def _matching(table: Table, names: Sequence[RelationName]) -> list[RelationName]:
    """The relations a declared name means; an unqualified exact one goes by the search path."""
    wanted = table.name
    return [
        found
        for found in names
        if wanted.match(found.schema, found.name) is not None
        and (wanted.schema is not None or found.visible)
    ]


def _wanted(table: Table, found: RelationName, exact: set[int]) -> bool:
    """An exact entry wins over a pattern, and a pattern means parents, not their partitions."""
    return not table.name.is_pattern or (found.oid not in exact and not found.partition)


def _tenant_part(table: Table, found: RelationName) -> str | None:
    match = table.name.match(found.schema, found.name)
    if match is None or table.tenant_from is None:
        return None
    return match.schema_part if table.tenant_from == "schema" else match.table_part


def _nearest(wanted: TableName, names: Sequence[RelationName]) -> RelationName | None:
    """The table of the same name in another schema, else the one that is spelled most alike."""
    # Held against what was written: without a schema there, without one here.
    by_name = {
        display_name(found.schema, found.name) if wanted.schema else found.name: found
        for found in names
    }
    written = str(wanted) if wanted.schema else wanted.name
    elsewhere = [found for found in names if found.name == wanted.name]
    near = difflib.get_close_matches(written, list(by_name), n=1)
    return elsewhere[0] if elsewhere else by_name[near[0]] if near else None


def _missing(target: Target, names: Sequence[RelationName]) -> Target:
    if not target.declared.required:
        return target
    if target.declared.name.is_pattern:
        text = f"no table matches {target.name}"
    else:
        near = _nearest(target.declared.name, names)
        hint = f"; did you mean {display_name(near.schema, near.name)}?" if near else ""
        text = f"table {target.name} does not exist in database {target.server.database!r}{hint}"
    if target.server.vector_version is None:
        text += "; " + no_extension(target.server)
    return replace(target, problems=(Problem(text=text),))
