"""Composes the part of the migration that is about one table, up and down.

Asks the catalog what is there already; writes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.expressions import plan_fault
from checks.row_checks.row_expressions import scope_of, text_of
from checks.targets.indexes.missing_rows import missing_rows_index, uses_partial_index
from remediation.prevention.dimension_check import (
    add_constraint,
    dimension_constraint,
    needless,
    validate_constraint,
)
from remediation.prevention.owned_objects import OwnedObject, guard
from remediation.prevention.script import Step
from remediation.prevention.stale_mark import NoMark, StaleMark, stale_mark
from remediation.prevention.stale_trigger import create_trigger, edited_row, stale_trigger
from remediation.prevention.survey import (
    generated_columns,
    index_name,
    index_places,
    is_there,
    roles_that_cannot_mark,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.connection import Connection
    from checks.targets.target import Target
    from remediation.prevention.survey import IndexPlace


def not_looked_at(target: Target) -> Step:
    """The step of a table that is not there, or not as declared."""
    reasons = [problem.text for problem in target.problems] or [
        f"{target.name} does not exist yet; print the migration anew once it does"
    ]
    return Step(title=target.name, notes=tuple(f"nothing is prevented: {text}" for text in reasons))


def table_objects(connection: Connection, target: Target) -> tuple[OwnedObject, ...]:
    """All that may be made, now or by other settings, for a table that is there."""
    objects: list[OwnedObject] = []
    if target.facts.writable_kind:
        objects += stale_trigger(target)
    if target.holder.writable_kind:
        objects.append(dimension_constraint(target))
    if target.facts.writable_kind and target.declared.store is None:
        objects += [_index_object(target, place) for place in index_places(connection, target)]
    return tuple(objects)


def table_up(connection: Connection, target: Target, *, schemas: Sequence[str]) -> Step:
    """The step of a scannable target. Raises psycopg's errors."""
    parts = {
        "trigger": _trigger(connection, target, schemas),
        "constraint": _dimension(target),
        "index": _index(connection, target),
    }
    notes = [] if target.unrepairable is None else [f"not repaired: {target.unrepairable}"]
    made = table_objects(connection, target)
    at_once = [owned for owned in made if owned.kind != "index"]
    # What other settings have had made.
    obsolete = [
        owned.drop
        for owned in at_once
        if not parts["trigger" if owned.kind == "function" else owned.kind].statements
        and is_there(connection, owned)
    ]
    statements = [*obsolete, *(each for part in parts.values() for each in part.statements)]
    return Step(
        title=target.name,
        notes=(*notes, *(note for part in parts.values() for note in part.notes)),
        statements=(guard(at_once), *statements) if statements else (),
        alone=(*parts["index"].alone, *parts["constraint"].alone),
    )


def table_down(target: Target, made: Sequence[OwnedObject]) -> Step:
    """The step that removes all of `table_objects`.

    The index of a partitioned table comes before those of its partitions, which it takes along.
    """
    at_once = [owned for owned in made if owned.kind != "index"]
    alone = [owned for owned in made if owned.kind == "index"]
    return Step(title=target.name, statements=_guarded_drops(at_once), alone=_guarded_drops(alone))


def _guarded_drops(objects: Sequence[OwnedObject]) -> tuple[sql.Composable, ...]:
    return (guard(objects), *(owned.drop for owned in objects)) if objects else ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """One measure: its statements, or in `notes` why there are none."""

    notes: tuple[str, ...] = ()
    statements: tuple[sql.Composable, ...] = ()
    alone: tuple[sql.Composable, ...] = ()


def _trigger(connection: Connection, target: Target, schemas: Sequence[str]) -> _Part:
    mark = stale_mark(target)
    if isinstance(mark, NoMark):
        said = "edits of the text stay unseen" if mark.lacking else "no trigger"
        return _Part(notes=(f"{said}: {mark.reason}",))
    generated = generated_columns(connection, target.facts)
    empty = sql.SQL("(NULL::{}).*").format(target.identifier)
    fault = plan_fault(
        connection,
        sql.SQL("SELECT {}, {} FROM {}").format(
            text_of(target), scope_of(target), edited_row(target, empty, generated)
        ),
    )
    if fault is not None:
        reason = (
            f"edits of the text stay unseen: its expression means nothing in a trigger: {fault}"
        )
        return _Part(notes=(reason,))
    return _Part(
        notes=(f"trigger: {mark.says}", *_limits(connection, target, mark)),
        statements=create_trigger(target, mark, schemas=schemas, generated=generated),
    )


def _limits(connection: Connection, target: Target, mark: StaleMark) -> list[str]:
    """What the reviewer is to know of the trigger."""
    notes = []
    if re.search(r"\bselect\b", target.declared.text, re.IGNORECASE):
        notes.append("the text reads other tables, whose edits the trigger does not see")
    if mark.means == "null" and target.declared.where is not None:
        notes.append("rows outside of `where` are left alone, also while their text is edited")
    if target.store is not None:
        roles = roles_that_cannot_mark(connection, target, mark.column.name)
        names = sql.SQL(", ").join(
            sql.Identifier(name) for name in (mark.column.name, *target.store.declared.key)
        )
        for role in roles:
            grant = sql.SQL("GRANT UPDATE ({}), SELECT ({}) ON {} TO {}").format(
                sql.Identifier(mark.column.name),
                names,
                target.store.identifier,
                sql.Identifier(role),
            )
            notes.append(
                f"BEFORE this: role {role!r} may edit the text and not mark its embedding, so that"
                f" its edits would fail: {grant.as_string(None)}"
            )
    return notes


def _dimension(target: Target) -> _Part:
    if (reason := needless(target)) is not None:
        return _Part(notes=(reason,))
    return _Part(
        notes=(
            "CHECK on the dimension: repair first (pytest --remediate). A row that has another"
            " one can be repaired, and not be changed otherwise, until it is",
        ),
        statements=(add_constraint(target),),
        alone=(validate_constraint(target),),
    )


def _index(connection: Connection, target: Target) -> _Part:
    """The index on rows without an embedding; that of partitions is attached to the whole's."""
    if target.store is not None:
        reason = "no index of failing rows: a row that is not in the store cannot be indexed"
        return _Part(notes=(reason,))
    if not target.facts.writable_kind or target.embedding.not_null:
        reason = "no index of failing rows: it takes a table, and an embedding that may be NULL"
        return _Part(notes=(reason,))
    places = index_places(connection, target)
    if _served(connection, target, _index_object(target, places[0])):
        return _Part(notes=("another index finds the rows without an embedding already",))
    make: list[sql.Composable] = []
    for place in places:
        owned = _index_object(target, place)
        make.append(guard((owned,)))
        if place.broken:
            make.append(owned.drop)
        make += [
            missing_rows_index(
                target, place.schema, place.name, name=owned.name, partitioned=place.partitioned
            ),
            owned.comment,
        ]
        if place.parent is not None:
            schema, parent = place.parent
            make.append(
                sql.SQL("ALTER INDEX {} ATTACH PARTITION {}").format(
                    sql.Identifier(schema, index_name(target, parent)), owned.identifier
                )
            )
    return _Part(alone=tuple(make))


def _served(connection: Connection, target: Target, ours: OwnedObject) -> bool:
    """Whether an index that is not ours serves; of partitions not each may have one."""
    if ours.partitioned or is_there(connection, ours):
        return False
    embedding = sql.Identifier(target.embedding.name)
    statement = sql.SQL("SELECT FROM {} WHERE {} IS NULL AND {}").format(
        target.identifier, embedding, scope_of(target)
    )
    return uses_partial_index(connection, statement)


def _index_object(target: Target, place: IndexPlace) -> OwnedObject:
    return OwnedObject(
        kind="index",
        schema=place.schema,
        table=place.name,
        name=index_name(target, place.name),
        partitioned=place.partitioned,
        says=f"rows of {place.name} without an embedding",
    )
