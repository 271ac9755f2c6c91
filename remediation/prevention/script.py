"""Writes a migration as text: short transactions first, then what cannot run in one.

Knows nothing of tables; every statement is given to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from checks.wording import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import LiteralString

LOCK_TIMEOUT = "2s"
"""How long a statement waits for the lock of a table; whoever comes later waits behind it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Statements about one table, with what a reviewer is to know of them."""

    title: str
    notes: tuple[str, ...] = ()
    statements: tuple[sql.Composable, ...] = ()
    """Run in one transaction."""
    alone: tuple[sql.Composable, ...] = ()
    """Run afterwards, each in a transaction of its own, or in none."""


def dollar_quoted(body: sql.Composable) -> sql.Composed:
    """A string constant that nothing in it can end, whatever the user's expressions hold."""
    text = body.as_string(None)
    number = 0
    while (tag := f"$integrity{number or ''}$") in text:
        number += 1
    quote: LiteralString = tag
    return sql.Composed([sql.SQL(quote), body, sql.SQL(quote)])


def search_path(schemas: Sequence[str]) -> sql.Composable:
    """The value of search_path in which the settings' expressions mean what they mean here.

    pg_temp comes last: a temporary table shall not take the place of another one.
    """
    return sql.SQL(", ").join(sql.Identifier(name) for name in ("pg_catalog", *schemas, "pg_temp"))


def written(steps: Iterable[Step], *, schemas: Sequence[str], head: Iterable[str]) -> str:
    """The whole script, in UTF-8: what is run alone comes last, that of each step together."""
    steps = tuple(steps)
    path = search_path(schemas)
    lines = [*map(_comment, head), "SET client_encoding = 'UTF8';"]
    for step in steps:
        lines += ["", *_titled(step, step.notes)]
        if step.statements:
            limits = (
                sql.SQL("BEGIN"),
                sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)),
                sql.SQL("SET LOCAL search_path = {}").format(path),
            )
            lines += map(_ended, (*limits, *step.statements, sql.SQL("COMMIT")))
    if any(step.alone for step in steps):
        lines += ["", *map(_comment, _WHY_ALONE)]
        settings = (
            sql.SQL("SET lock_timeout = 0"),
            sql.SQL("SET statement_timeout = 0"),
            sql.SQL("SET search_path = {}").format(path),
        )
        lines += map(_ended, settings)
        for step in steps:
            if step.alone:
                lines += ["", *_titled(step, ()), *map(_ended, step.alone)]
        lines.append("")
        for name in ("lock_timeout", "statement_timeout", "search_path"):
            lines.append(f"RESET {name};")
    return "\n".join(lines) + "\n"


_WHY_ALONE = (
    "OUTSIDE OF A TRANSACTION, each statement by itself: CONCURRENTLY allows none, and VALIDATE",
    "reads the whole table. They let others read and write meanwhile, and may wait long for",
    "transactions that began before them; so no timeout holds for them. Where a CREATE INDEX",
    "CONCURRENTLY is interrupted, print the migration anew: it drops what was left behind.",
)


def _titled(step: Step, notes: Iterable[str]) -> list[str]:
    return [_comment(f"--- {step.title}"), *map(_comment, notes)]


def _comment(text: str) -> str:
    """One line, whatever the text holds: a line break would end the comment."""
    return f"-- {visible(text, keep='')}".rstrip()


def _ended(statement: sql.Composable) -> str:
    return f"{statement.as_string(None).strip()};"
