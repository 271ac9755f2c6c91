"""Judges whether every row that can be found lies under the declared kind of index.

Judges by the catalog and builds the statement that mends it; reads no row. Other checks look for
the rows that no index holds (NULL, and zero vectors under cosine).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from checks.database.vectors.ann_indexes import key_of, read_indexed_relations
from checks.settings.names import display_name
from checks.targets.indexes.scopes import Scopes
from checks.targets.indexes.statements import create_statement, expected_key, no_key, operator_class
from checks.wording import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from checks.database.connection import Connection
    from checks.database.vectors.ann_indexes import AnnIndex, IndexedRelation
    from checks.settings.tables import IndexMethod
    from checks.targets.target import Target

RELATIONS_NAMED = 5
"""Partitions that a finding spells out; the others are counted."""


def with_index_faults(connection: Connection, targets: Sequence[Target]) -> tuple[Target, ...]:
    """The targets, with what is wrong with their declared indexes. Raises psycopg's errors.

    Two statements for all of them, and one for each kind of partial index.
    """
    asked = [
        target
        for target in targets
        if target.declared.index is not None
        and target.scannable
        and target.declared.check_settings("index").enabled
    ]
    if not asked:
        return tuple(targets)
    oids = sorted({target.holder.oid for target in asked})
    relations = read_indexed_relations(connection, oids)
    scopes = Scopes(connection=connection)
    faults = {
        target.name: tuple(_faults(target, relations[target.holder.oid], scopes))
        for target in asked
    }
    return tuple(replace(target, index_faults=faults.get(target.name, ())) for target in targets)


def _faults(target: Target, relations: Sequence[IndexedRelation], scopes: Scopes) -> Iterator[str]:
    """What is wrong, in words that end with the statements that mend it."""
    holder = target.holder
    if holder.kind in {"v", "f"}:
        kind = "view" if holder.kind == "v" else "foreign table"
        yield (
            f"{display_name(holder.schema, holder.name)} is a {kind}, whose index cannot be seen"
            " from here; declare `index` for the table that holds its rows"
        )
        return
    uncovered = [
        (relation, complaints)
        for relation in relations
        if (complaints := _complaints(target, relation, scopes)) is not None
    ]
    if not uncovered:
        return
    reasons = [
        f"{_nothing_fits(target, relation)}{''.join(f'; {words}' for words in complaints)}"
        for relation, complaints in uncovered[:RELATIONS_NAMED]
    ]
    left_out = len(uncovered) - len(reasons)
    if left_out:
        reasons.append(f"and so {left_out:,} more partitions")
    statements = [
        statement
        for relation, _ in uncovered[:RELATIONS_NAMED]
        for statement in _statements(target, relation)
    ]
    yield "\n".join([".\n".join(reasons), *(("mend it with:", *statements) if statements else ())])


def _nothing_fits(target: Target, relation: IndexedRelation) -> str:
    declared = target.declared
    metric = declared.metric.replace("_", " ")
    name = display_name(relation.schema, relation.name)
    return f"{name} has no sound {declared.index} index for {metric} over {target.embedding.name}"


def _complaints(target: Target, relation: IndexedRelation, scopes: Scopes) -> list[str] | None:
    """What is wrong with each index over the embeddings; None where one of them is sound."""
    found = []
    for index in relation.indexes:
        words = _complaint(target, relation, index, scopes)
        if words is None:
            return None
        found.append(words)
    return found


def _complaint(
    target: Target, relation: IndexedRelation, index: AnnIndex, scopes: Scopes
) -> str | None:
    """What is wrong with an index, or None where nothing is."""
    name = display_name(index.schema, index.name)
    misfit = _misfit(target, index)
    if misfit is not None:
        return f"{name} {misfit}"
    if not index.valid:
        if index.building:
            return f"{name} is being built at this moment"
        return f"{name} is invalid, as a broken CREATE INDEX CONCURRENTLY leaves it"
    if not scopes.covered(target, relation, index):
        return (
            f"{name} is partial and may leave rows of the declared scope out"
            f" (WHERE {index.predicate})"
        )
    return None


def _misfit(target: Target, index: AnnIndex) -> str | None:
    """Why an index, valid or not, is not the declared one, or None."""
    declared = target.declared
    key = key_of(index, target.embedding)
    if key is None:
        if index.expression is not None and target.embedding.name in index.expression:
            # binary_quantize() or subvector(): its results must be sorted again by exact distance.
            return f"is on {index.expression}, not on the whole of {target.embedding.name}"
        return f"is on {index.column or index.expression}"
    if index.method != declared.index:
        return f"is of the kind {index.method}"
    wanted = operator_class(key.type, declared.metric)
    if index.operator_class != wanted:
        return f"is of operator class {index.operator_class}, where the metric needs {wanted}"
    if key.dimension not in (None, target.dimensions):
        return f"is on {key.dimension} dimensions, declared are {target.dimensions}"
    return None


def _statements(target: Target, relation: IndexedRelation) -> Iterator[str]:
    """What mends a relation without a sound index; nothing where one is being built."""
    fitting = [index for index in relation.indexes if _misfit(target, index) is None]
    broken = [index for index in fitting if not index.valid]
    if any(index.building for index in broken):
        return
    # REINDEX CONCURRENTLY may leave behind a copy of an index, which itself may be gone.
    copies = [index for index in broken if re.search(r"_cc(new|old)\d*$", index.name)]
    for index in copies:
        yield f"DROP INDEX CONCURRENTLY {display_name(index.schema, index.name)};"
    whole = [index for index in broken if index not in copies and index.predicate is None]
    if whole:
        yield f"REINDEX INDEX CONCURRENTLY {display_name(whole[0].schema, whole[0].name)};"
        return
    method = cast("IndexMethod", target.declared.index)
    key = expected_key(target)
    if relation.kind == "f" or key is None:
        why = "it is a foreign table, indexed where its rows are" if key else no_key(target)
        # An SQL comment, because it is pasted together with statements.
        name = visible(display_name(relation.schema, relation.name), keep="")
        yield f"-- {name} can hold no such {method} index: {why}"
        return
    statement = create_statement(target, relation, method, key)
    others = {
        found.dimension
        for index in relation.indexes
        if (found := key_of(index, target.embedding)) is not None
    } - {None, target.dimensions}
    if others:
        # It would fail at the first vector that the other index holds, or stand beside it unused.
        has = " and ".join(map(str, sorted(filter(None, others))))
        yield (
            f"-- an index of {has} dimensions is there: correct `dimensions` in the settings, or"
            f" have every vector embedded with {target.dimensions} first, and then run"
            f"\n-- {statement}"
        )
        return
    yield statement
