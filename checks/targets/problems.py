"""Validates a declared table: columns, types, rights, policies, expressions.

Reads the catalog and plans expressions; reads no row, and decides nothing about repair.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from checks.database.connection import reason_of
from checks.database.expressions import Expression, faults_of
from checks.targets.provenance import LETTERS
from checks.targets.relation_problems import (
    Declared,
    Problem,
    column_problems,
    embedding_problems,
    no_extension,
    policy_problems,
    provenance_problems,
    right_problems,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from checks.database.catalog import Relation
    from checks.database.connection import Connection
    from checks.database.expressions import ExpressionType
    from checks.settings.tables import Table
    from checks.targets.target import Target


__all__ = ["Problem", "expressions_of_table", "no_extension", "problems_of"]


def problems_of(connection: Connection, target: Target, layouts: Layouts) -> tuple[Problem, ...]:
    """Everything that is not as declared."""
    declared = target.declared
    place = Declared(name=target.name, relation=target.facts, server=target.server)
    if forbidden := right_problems(place):
        return tuple(forbidden)
    # With a store, the embedding is a column of the store.
    embedding = declared.embedding if declared.store is None else None
    wanted: list[tuple[str, str | None]] = [("embedding", embedding)]
    wanted += [("key", name) for name in declared.key]
    wanted += [("group_by", name) for name in declared.group_by]
    wanted += [
        ("content_hash", declared.content_hash),
        ("model_column", declared.model_column),
        ("embedded_at", declared.embedded_at),
    ]
    return (
        *column_problems(place, wanted),
        *policy_problems(place),
        *(
            embedding_problems(place, embedding, target.model_dimensions, pad=declared.pad)
            if embedding
            else ()
        ),
        *provenance_problems(place, declared, declared.hash),
        *_expression_problems(connection, target, layouts),
    )


def _expression_problems(connection: Connection, target: Target, layouts: Layouts) -> list[Problem]:
    def ask() -> list[str]:
        return faults_of(connection, target.identifier, expressions_of_table(target.declared))

    try:
        faults = layouts.faults(target.declared, [target.facts], "table", ask)
    except psycopg.OperationalError as error:
        # The table is locked, or is a foreign one that does not answer: only this table cannot be
        # looked at.
        if connection.closed:
            raise
        faults = [f"its expressions could not be validated: {reason_of(error)}"]
    return [Problem(text=f"{target.name}: {fault}") for fault in faults]


def expressions_of_table(table: Table) -> list[Expression]:
    """Every SQL expression of a declaration with the type its place asks for."""
    texts = [("text", table.text), ("tenant", table.tenant)]
    if table.hash not in LETTERS:
        texts.append(("hash", table.hash))
    times = [("created_at", table.created_at), ("updated_at", table.updated_at)]
    conditions = [("where", table.where)]
    # Beside a store they may name its columns, and are validated with it.
    own = table.custom if table.store is None else ()
    conditions += [(f"custom.{check.name}", check.failing_when) for check in own]
    kinds: tuple[tuple[ExpressionType, list[tuple[str, str | None]]], ...] = (
        ("text", texts),
        ("timestamptz", times),
        ("boolean", conditions),
    )
    return [
        Expression(key=key, source=source, type=kind)
        for kind, sources in kinds
        for key, source in sources
        if source is not None
    ]


@dataclass(kw_only=True, slots=True)
class Layouts:
    """Remembers the faults of a declaration's expressions for tables of the same columns."""

    _known: dict[tuple[object, ...], list[str]] = field(default_factory=dict)
    _sources: dict[int, str] = field(default_factory=dict)

    def faults(
        self,
        declared: Table,
        relations: Sequence[Relation],
        what: str,
        ask: Callable[[], list[str]],
    ) -> list[str]:
        """The faults that `ask` finds, asked once for relations that are alike.

        What `ask` raises is not remembered: the next table may not be locked.
        """
        # Entries of one table may differ in all but its name.
        alike = (what, id(declared), *(self._layout(declared, one) for one in relations))
        if alike not in self._known:
            self._known[alike] = ask()
        return self._known[alike]

    def _layout(self, declared: Table, relation: Relation) -> tuple[object, ...]:
        source = self._sources.get(id(declared))
        if source is None:
            source = self._sources[id(declared)] = "\0".join(_sources(declared)).casefold()
        # An expression that names its own table means something else in each table.
        spoken = tuple(
            name for name in (relation.schema, relation.name) if name.casefold() in source
        )
        columns = tuple(
            (column.name, column.full_type, column.readable) for column in relation.columns.values()
        )
        return (relation.kind, relation.primary_key, spoken, frozenset(columns))


def _sources(declared: Table) -> Iterator[str]:
    """Every SQL expression of a declaration."""
    own = (declared.text, declared.tenant, declared.where, declared.created_at, declared.updated_at)
    yield from (source for source in own if source is not None)
    yield from (check.failing_when for check in declared.custom)
    yield declared.hash
    if declared.store is not None:
        yield declared.store.text or ""
        yield declared.store.where or ""
        yield from declared.store.insert.values()
        yield from declared.store.constants.values()
