"""Validates a table's store and source: tables, columns, keys, types, rights.

Reads the catalog and plans statements; reads no row, and decides nothing about repair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from checks.database.connection import reason_of
from checks.database.expressions import Expression, faults_of, plan_fault
from checks.settings.names import display_identifier
from checks.targets.relation_problems import (
    Declared,
    Problem,
    column_problems,
    embedding_problems,
    policy_problems,
    provenance_problems,
    right_problems,
)
from checks.targets.store_constants import literal, unmatched_insert
from checks.targets.store_rows import OWN, STORE, beside_store, same_key
from checks.targets.stores import names_beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.connection import Connection
    from checks.settings.names import TableName
    from checks.targets.problems import Layouts
    from checks.targets.stores import SourceTable, StoreTable
    from checks.targets.target import Target


def problems_beside(
    connection: Connection, target: Target, layouts: Layouts
) -> tuple[Problem, ...]:
    """Everything about a table's store and source that is not as declared."""
    declared = target.declared
    names = names_beside(declared, target.facts)
    problems: list[Problem] = []
    if declared.store is not None:
        problems += (
            [_missing(target, "store", names["store"])]
            if target.store is None
            else _store_problems(connection, target, target.store, layouts)
        )
    if declared.source is not None:
        problems += (
            [_missing(target, "source", names["source"])]
            if target.source is None
            else _source_problems(connection, target, target.source, layouts)
        )
    return tuple(problems)


def _missing(target: Target, section: str, name: TableName) -> Problem:
    return Problem(
        text=(
            f"{section}.name: table {name}, declared beside {target.name}, does not exist in"
            f" database {target.server.database!r}; write its schema as well where it is not on"
            " the search path"
        )
    )


def _store_problems(
    connection: Connection, target: Target, store: StoreTable, layouts: Layouts
) -> list[Problem]:
    declared = store.declared
    place = Declared(
        name=store.name, relation=store.relation, server=target.server, section="store."
    )
    problems = right_problems(place)
    if problems:
        return problems
    problems = column_problems(
        place,
        [
            *(("key", name) for name in declared.key),
            ("embedding", declared.embedding),
            ("model_column", declared.model_column),
            ("embedded_at", declared.embedded_at),
            ("content_hash", declared.content_hash),
            *(("insert", name) for name in declared.insert),
            *(("constants", name) for name in declared.constants),
        ],
    )
    problems += policy_problems(place)
    problems += embedding_problems(
        place, declared.embedding, target.model_dimensions, pad=target.declared.pad
    )
    problems += provenance_problems(place, declared, target.declared.hash)
    if not target.key_names:
        text = f"store.key: {target.name} has no primary key to match it with; declare `key`"
        problems.append(Problem(text=text))
    if any(problem.blocks for problem in problems) or not _key_is_there(target):
        return problems
    unmatched = _unmatched(
        connection, target, "store", store.name, declared.key, target.key_names, layouts
    )
    if unmatched:
        return [*problems, *unmatched]
    return [*problems, *_expression_problems(connection, target, store, layouts)]


def _source_problems(
    connection: Connection, target: Target, source: SourceTable, layouts: Layouts
) -> list[Problem]:
    declared = source.declared
    place = Declared(
        name=source.name, relation=source.relation, server=target.server, section="source."
    )
    own = Declared(name=target.name, relation=target.facts, server=target.server, section="source.")
    problems = right_problems(place)
    if problems:
        return problems
    problems = column_problems(place, [("key", name) for name in declared.key])
    problems += column_problems(own, [("source_key", name) for name in declared.source_key])
    problems += policy_problems(place)
    if any(problem.blocks for problem in problems):
        return problems
    return [
        *problems,
        *_unmatched(
            connection,
            target,
            "source",
            source.name,
            declared.key,
            declared.source_key,
            layouts,
        ),
    ]


def _key_is_there(target: Target) -> bool:
    """Whether the table's own key can be matched; where not, that is a problem of the table."""
    return bool(target.key_names) and all(name in target.facts.columns for name in target.key_names)


def _unmatched(
    connection: Connection,
    target: Target,
    section: str,
    name: str,
    key: Sequence[str],
    own_key: Sequence[str],
    layouts: Layouts,
) -> list[Problem]:
    """Problems of two keys of different length, or of types that PostgreSQL cannot compare."""
    words = f"({', '.join(map(display_identifier, key))}) of {name}"
    own_words = f"({', '.join(map(display_identifier, own_key))}) of {target.name}"
    if len(key) != len(own_key):
        fault: str | None = "they are matched column by column, in order"
    else:
        beside = target.store if section == "store" else target.source
        assert beside is not None
        statement = sql.SQL("SELECT FROM {} AS {} JOIN {} AS {} ON {} LIMIT 0").format(
            target.identifier,
            OWN,
            beside.identifier,
            STORE,
            same_key(
                [target.facts.columns[column] for column in own_key],
                [beside.relation.columns[column] for column in key],
            ),
        )
        alike = [target.facts, beside.relation]

        def ask() -> list[str]:
            refused = plan_fault(connection, statement)
            return [] if refused is None else [refused]

        try:
            fault = next(iter(layouts.faults(target.declared, alike, section, ask)), None)
        except psycopg.OperationalError as error:
            if connection.closed:
                raise
            fault = reason_of(error)
    if fault is None:
        return []
    return [Problem(text=f"{section}.key: {words} cannot be matched with {own_words}: {fault}")]


def _expression_problems(
    connection: Connection, target: Target, store: StoreTable, layouts: Layouts
) -> list[Problem]:
    declared = store.declared
    held = sql.SQL("{} AS {}").format(store.identifier, STORE)
    texts = (
        []
        if declared.text is None
        else [Expression(key="store.text", source=declared.text, type="text")]
    )
    columns = store.relation.columns
    where = (
        []
        if declared.where is None
        else [Expression(key="store.where", source=declared.where, type="boolean")]
    )
    constants = [
        Expression(key=f"store.constants.{name}", source=source, type=columns[name].full_type)
        for name, source in declared.constants.items()
    ]
    inserted = [
        Expression(key=f"store.insert.{name}", source=source, type=columns[name].full_type)
        for name, source in declared.insert.items()
    ]
    conditions = [
        Expression(key=f"custom.{check.name}", source=check.failing_when, type="boolean")
        for check in target.declared.custom
    ]

    def ask() -> list[str]:
        return [
            *faults_of(connection, held, [*texts, *where]),
            # The same for all rows, so that no column may be named.
            *faults_of(connection, sql.SQL("(SELECT) AS integrity_no_row"), constants),
            *faults_of(connection, target.identifier, inserted),
            *faults_of(
                connection, target.identifier, conditions, around=beside_store(target, store)
            ),
        ]

    try:
        alike = [target.facts, store.relation]
        faults = layouts.faults(target.declared, alike, "beside the store", ask)
    except psycopg.OperationalError as error:
        if connection.closed:
            raise
        faults = [f"its expressions could not be validated: {reason_of(error)}"]
    problems = [Problem(text=f"{target.name}: {fault}") for fault in faults]
    written = {*declared.key, declared.embedding, declared.model_column, declared.embedded_at}
    written |= {declared.content_hash, store.text_column}
    tagged = {declared.model_column} if declared.model_column in store.constants else set()
    problems += [
        Problem(
            text=f"store.{setting}: column {name!r} of {store.name} is declared by another key of"
            " [tables.store] already; leave it out",
            blocks=False,
        )
        for setting, given, others in (
            ("insert", declared.insert, {*written, *declared.constants}),
            ("constants", declared.constants, written - tagged),
        )
        for name in given
        if name in others
    ]
    problems += [
        Problem(
            text=f"store.constants: column {name!r} of {store.name} is model_column too, and has"
            f" another value than the declared model {target.model!r}; give both the same",
            blocks=False,
        )
        for name, value in declared.constants.items()
        if name in tagged and value.strip() != literal(target.model)
    ]
    if (fault := unmatched_insert(declared, store.relation, store.constants)) is not None:
        problems.append(Problem(text=f"store.insert: {store.name}: {fault}"))
    valid = not any(fault.startswith("store.text:") for fault in faults)
    if valid and declared.text is not None and store.text_column is None and not target.repeats:
        problems.append(
            Problem(
                text=(
                    f"store.text: expected a column of {store.name}, found {declared.text!r}; where"
                    " a key has one row, a repair writes there what it embeds"
                ),
                blocks=False,
            )
        )
    return problems
