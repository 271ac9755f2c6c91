"""Composes the whole migration: a step for each table, and the view over all of them.

Reads the catalog; writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from checks.errors import IntegrityError
from remediation.prevention.coverage_view import coverage_view, create_view, reads_as_invoker
from remediation.prevention.owned_objects import NOT_OURS, guard
from remediation.prevention.script import Step, written
from remediation.prevention.survey import names_taken, schemas_in_effect
from remediation.prevention.table_steps import (
    not_looked_at,
    table_down,
    table_objects,
    table_up,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.connection import Connection
    from checks.database.server import Server
    from checks.targets.target import Target
    from remediation.prevention.owned_objects import OwnedObject


class NameTakenError(IntegrityError):
    """Something that is not ours has a name that the migration needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Migration:
    """Both scripts, as they are printed."""

    up: str
    down: str


def compose(
    connection: Connection,
    targets: Sequence[Target],
    server: Server,
    *,
    schema: str,
    with_view: bool,
) -> Migration:
    """The migration for these targets, in the caller's read-only transaction.

    The view, in `schema`, is that of all tables: it is left out where only some are meant. Raises
    NameTakenError, and psycopg's errors.
    """
    schemas = schemas_in_effect(connection)
    up, down = [], []
    objects: list[OwnedObject] = []
    scannable = [target for target in targets if target.scannable]
    for target in targets:
        up.append(
            table_up(connection, target, schemas=schemas)
            if target.scannable
            else not_looked_at(target)
        )
        if target.relation is not None:
            made = table_objects(connection, target)
            down.append(table_down(target, made))
            objects += made
    if with_view and scannable:
        step_up, step_down = _view_steps(scannable, schema, server)
        up.append(step_up)
        # It depends on the tables' columns, and so goes first.
        down.insert(0, step_down)
        objects.append(coverage_view(schema))
    if (taken := names_taken(connection, objects)) is not None:
        raise NameTakenError(taken + NOT_OURS)
    return Migration(
        up=written(up, schemas=schemas, head=_head(server, "up")),
        down=written(down, schemas=schemas, head=_head(server, "down")),
    )


def _view_steps(targets: Sequence[Target], schema: str, server: Server) -> tuple[Step, Step]:
    view = coverage_view(schema)
    name = view.identifier.as_string(None)
    if reads_as_invoker(server):
        rights = (
            f"it shows each role what its own rights and policies do: whoever reads {name} needs"
            " SELECT on the declared columns as well"
        )
    else:
        rights = (
            f"PostgreSQL {server.version} reads it with its owner's rights, past row-level"
            f" security: whoever may SELECT {name} sees the counts of all tenants"
        )
    return (
        Step(
            title=view.words,
            notes=(
                rights,
                "a column that it reads cannot change its type meanwhile: run the way back, alter"
                " the table, print and run the migration anew",
            ),
            statements=(guard((view,)), *create_view(targets, schema, server)),
        ),
        Step(title=view.words, statements=(guard((view,)), view.drop)),
    )


_DIRECTIONS = {
    "up": "makes a missing or stale embedding impossible, or visible at once. Running it again is"
    " harmless.",
    "down": "removes what the migration made, and nothing else.",
}


def _head(server: Server, direction: str) -> tuple[str, ...]:
    return (
        f"embedding-integrity, {direction}: {_DIRECTIONS[direction]}",
        f"For database {server.database!r} on PostgreSQL {server.version}. Review it, then run it"
        " as the owner of the tables:",
        'psql --no-psqlrc --set=ON_ERROR_STOP=1 --file=THIS_FILE "$URL"',
        "Each table is changed in a transaction of its own, which waits for a lock no longer than"
        " lock_timeout:",
        "where that passes, run it again.",
    )
