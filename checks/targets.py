"""Declared tables held against the catalog: which relation each means, and what is not as declared.

A target with a blocking problem cannot be scanned; one with any problem is never repaired.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg import sql

from checks.catalog import read_relation_names, read_relations
from checks.expressions import Expression, faults_of
from checks.vectors import EMBEDDING_TYPES, EmbeddingType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.catalog import Column, Relation, RelationName, Server
    from checks.connection import Connection
    from checks.settings import Settings, Table


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something that is not as declared; `blocks` when the table cannot be scanned because of it."""

    text: str
    blocks: bool = True
    forbidden: bool = False
    """The role has no right to look, which is not the same as a broken table."""


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
    targets: list[Target] = []
    for table, found_names in matched:
        bare = Target(
            declared=table,
            name=str(table.name),
            server=server,
            model=settings.model_for(table),
            dimensions=settings.dimensions_for(table),
        )
        if not found_names:
            targets.append(_missing(bare, names))
        for found in found_names:
            target = replace(
                bare,
                name=display_name(found.schema, found.name),
                relation=relations[found.oid],
                tenant_part=_tenant_part(table, found),
            )
            targets.append(replace(target, problems=_problems(connection, target)))
    return tuple(targets)


def display_name(schema: str, name: str) -> str:
    """A qualified name as a person would write it in SQL: quoted only where it must be."""
    return ".".join(
        part
        if part.isascii() and part.replace("_", "a").isalnum() and part == part.lower()
        else sql.Identifier(part).as_string(None)
        for part in (schema, name)
    )


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


def _missing(target: Target, names: Sequence[RelationName]) -> Target:
    if not target.declared.required:
        return target
    if target.declared.name.is_pattern:
        text = f"no table matches {target.name}"
    else:
        known = [display_name(found.schema, found.name) for found in names]
        near = difflib.get_close_matches(target.name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        text = f"table {target.name} does not exist in database {target.server.database!r}{hint}"
    if target.server.vector_version is None:
        text += "; " + _no_extension(target.server)
    return replace(target, problems=(Problem(text=text),))


def _no_extension(server: Server) -> str:
    return (
        f"extension vector is not installed in database {server.database!r};"
        " an administrator installs it with CREATE EXTENSION vector"
    )


def _problems(connection: Connection, target: Target) -> tuple[Problem, ...]:
    """Everything that is not as declared, all at once."""
    relation = target.facts
    if not relation.readable:
        text = (
            f"role {target.server.role!r} may not read {target.name};"
            f" grant it with GRANT SELECT ON {target.name} TO {target.server.role}"
        )
        return (Problem(text=text, forbidden=True),)
    problems = [*_column_problems(target), *_policy_problems(target)]
    if not problems:
        problems = [
            Problem(text=f"{target.name}: {fault}")
            for fault in faults_of(connection, target.identifier, _expressions(target.declared))
        ]
    if not any(problem.blocks for problem in problems):
        problems += _embedding_problems(target)
    return tuple(problems)


def _column_problems(target: Target) -> list[Problem]:
    declared, columns = target.declared, target.facts.columns
    wanted = [("embedding", declared.embedding)]
    wanted += [("key", name) for name in declared.key]
    wanted += [("group_by", name) for name in declared.group_by]
    wanted += [
        (setting, name)
        for setting in ("content_hash", "model_column", "embedded_at")
        if (name := getattr(declared, setting)) is not None
    ]
    problems = []
    for setting, name in wanted:
        if name not in columns:
            near = difflib.get_close_matches(name, list(columns), n=1, cutoff=0.5)
            hint = f"; did you mean {sql.Identifier(near[0]).as_string(None)}?" if near else ""
            text = f"{setting}: column {name!r} does not exist in {target.name}{hint}"
            if setting == "embedding" and target.server.vector_version is None:
                text += "; " + _no_extension(target.server)
            problems.append(Problem(text=text))
    return problems


def _policy_problems(target: Target) -> list[Problem]:
    policies = target.facts.hiding_policies
    if not policies:
        return []
    role = sql.Identifier(target.server.role).as_string(None)
    return [
        Problem(
            text=(
                f"row-level security ({', '.join(policies)}) may hide rows of {target.name} from"
                f" role {role}; what is hidden cannot be checked. Grant sight with"
                f" ALTER ROLE {role} BYPASSRLS, or with"
                f" CREATE POLICY integrity_sees_all ON {target.name} FOR SELECT TO {role}"
                " USING (true) where no restrictive policy applies"
            ),
            forbidden=True,
        )
    ]


def _embedding_problems(target: Target) -> list[Problem]:
    column = target.embedding
    if column.type not in EMBEDDING_TYPES:
        kinds = ", ".join(EMBEDDING_TYPES)
        return [
            Problem(
                text=(
                    f"column {column.name!r} of {target.name} is of type {column.type};"
                    f" expected one of {kinds}"
                )
            )
        ]
    if column.dimension not in (None, target.dimensions):
        return [
            Problem(
                text=(
                    f"column {column.name!r} of {target.name} is"
                    f" {column.type}({column.dimension}), declared are {target.dimensions}"
                    " dimensions; correct `dimensions` in the settings, or migrate the column"
                ),
                blocks=False,
            )
        ]
    return []


def _expressions(table: Table) -> list[Expression]:
    """Every SQL expression of a declaration with the type its place asks for."""
    texts = [("text", table.text), ("tenant", table.tenant)]
    times = [(key, getattr(table, key)) for key in ("created_at", "updated_at")]
    conditions = [("where", table.where)]
    conditions += [(f"custom.{check.name}", check.failing_when) for check in table.custom]
    return [
        Expression(key=key, source=source, type=kind)
        for kind, sources in (
            ("text", texts),
            ("timestamptz", times),
            ("boolean", conditions),
        )
        for key, source in sources
        if source is not None
    ]
