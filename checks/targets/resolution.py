"""Resolves declared tables against the catalog, to the relations that each means.

Reads the catalog and plans expressions; reads no row.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from checks.database.catalog import read_relation_names, read_relations
from checks.settings.entry_names import place_in, rows_in, told_apart
from checks.settings.names import display_identifier, display_name
from checks.targets.indexes.faults import with_index_faults
from checks.targets.problems import Layouts, Problem, no_extension, problems_of
from checks.targets.siblings import with_siblings
from checks.targets.store_constants import constants_of
from checks.targets.store_problems import problems_beside
from checks.targets.stored_hashes import hash_problems
from checks.targets.stores import Names, SourceTable, StoreTable, names_beside
from checks.targets.target import Target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from checks.database.catalog import Relation, RelationName
    from checks.database.connection import Connection
    from checks.database.server import Server
    from checks.settings.integrity_toml import Settings
    from checks.settings.names import TableName
    from checks.settings.tables import Table


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
        for table in told_apart(settings.tables)
    ]
    places: dict[int, set[str]] = defaultdict(set)
    for table, found_names in matched:
        for found in found_names:
            places[found.oid].add(place_in(table))
    by_name = Names(names)
    oids = {found.oid for _, found_names in matched for found in found_names}
    oids |= {
        beside.oid
        for table, found_names in matched
        for found in found_names
        for name in names_beside(table, found).values()
        if (beside := by_name.find(name)) is not None
    }
    relations = read_relations(connection, sorted(oids))
    layouts = Layouts()
    targets: dict[str, Target] = {}
    first_of: dict[tuple[int, str], Target] = {}
    entries = zip(settings.named_tables, rows_in(settings.tables), matched, strict=True)
    for (entry, _), rows, (table, found_names) in entries:
        bare = Target(
            declared=table,
            name=entry,
            entry=entry,
            server=server,
            model=settings.model_for(table),
            model_dimensions=settings.dimensions_for(table),
        )
        if not found_names:
            targets.setdefault(bare.name, _missing(bare, names))
        for found in found_names:
            place = (place_in(table) if len(places[found.oid]) > 1 else "") + rows
            target = replace(
                bare,
                name=display_name(found.schema, found.name) + place,
                place=place,
                relation=relations[found.oid],
                tenant_part=_tenant_part(table, found),
            )
            first = first_of.setdefault((found.oid, place_in(table)), target)
            if first.declared.name != table.name:
                targets[first.name] = _declared_twice(targets[first.name], entry)
                continue
            target = _with_beside(target, by_name, relations)
            problems = (
                *problems_of(connection, target, layouts),
                *problems_beside(connection, target, layouts),
            )
            if not any(problem.blocks for problem in problems):
                problems = (*problems, *hash_problems(connection, target))
            targets[target.name] = replace(target, problems=problems)
        for target in _vanished(bare, found_names):
            targets.setdefault(target.name, target)
    return with_index_faults(connection, with_siblings(tuple(targets.values())))


def _with_beside(target: Target, by_name: Names, relations: Mapping[int, Relation]) -> Target:
    """The target with its store and source, where they exist."""
    declared = target.declared
    beside = {
        section: by_name.find(name)
        for section, name in names_beside(declared, target.facts).items()
    }
    store, source = beside.get("store"), beside.get("source")
    if declared.store is not None and store is not None:
        held = StoreTable(
            declared=declared.store,
            name=display_name(store.schema, store.name),
            relation=relations[store.oid],
            constants=constants_of(declared, declared.store, relations[store.oid], target.model),
        )
        target = replace(target, store=held)
    if declared.source is not None and source is not None:
        cut_from = SourceTable(
            declared=declared.source,
            name=display_name(source.schema, source.name),
            relation=relations[source.oid],
        )
        target = replace(target, source=cut_from)
    return target


def _declared_twice(first: Target, second: str) -> Target:
    text = (
        f"{first.name} is declared by two entries, {first.entry} and {second};"
        " the first one is checked: keep one, or narrow a pattern"
    )
    return replace(first, problems=(*first.problems, Problem(text=text, blocks=False)))


def _vanished(bare: Target, found_names: Sequence[RelationName]) -> list[Target]:
    """Targets of the declared tenants that are named by a `*` and whose table is not there."""
    declared = bare.declared
    if declared.tenant_from is None or not found_names or not declared.required:
        return []
    present = {_tenant_part(declared, found) for found in found_names}
    place = bare.name.removeprefix(str(declared.name))
    return [
        replace(
            bare,
            name=_name_for(declared, tenant) + place,
            place=place,
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
    """The relations that a declared name means; the search path decides an unqualified one."""
    wanted = table.name
    return [
        found
        for found in names
        if wanted.match(found.schema, found.name) is not None
        and (wanted.schema is not None or found.visible)
    ]


def _wanted(table: Table, found: RelationName, exact: set[int]) -> bool:
    """Whether a table means a relation: exact names win, and patterns leave out partitions."""
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
        text = f"no table matches {target.declared.name}"
    else:
        near = _nearest(target.declared.name, names)
        hint = f"; did you mean {display_name(near.schema, near.name)}?" if near else ""
        text = (
            f"table {target.declared.name} does not exist in database"
            f" {target.server.database!r}{hint}"
        )
    if target.server.vector_version is None:
        text += "; " + no_extension(target.server)
    return replace(target, problems=(Problem(text=text),))
