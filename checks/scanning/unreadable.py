"""Finds the rows for which an expression of the settings raises an error, by halves of their keys.

Asked only after a scan met such an error; within a bounded number of statements, in the caller's
read-only transaction.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from checks.database.errors import reason_of
from checks.database.expressions import embed_sql
from checks.row_checks.row_relation import columns_of, rows_of
from checks.targets.problems import expressions_of_table
from checks.targets.unreadable_rows import UnreadableRow, UnreadableRows, all_but, between

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from checks.database.catalog import Column
    from checks.database.connection import Connection
    from checks.targets.target import Target

MOST_STATEMENTS = 500
MOST_ROWS = 200
"""Rows that are left out of a scan; a table with more of them is not measured."""
STORED = sql.SQL("stored")
"""Has a store's row looked for, and so its condition evaluated."""
ROW_DEPENDENT = ("21", "22", "38", "39", "54", "P0")
"""Classes of SQLSTATE in which what a row holds is what is wrong: data, cardinality, functions,
limits of the program, PL/pgSQL."""


def may_be_of_a_row(error: psycopg.Error) -> bool:
    """Whether an error may be that of a single row."""
    return (error.sqlstate or "").startswith(ROW_DEPENDENT)


def without_unreadable(
    connection: Connection, target: Target, *, timeout: timedelta
) -> Target | None:
    """The target without the rows that raise, which it names, and its siblings without theirs.

    None where no row was found, or where rows cannot be told by a key that is never NULL.
    """
    siblings = [without_unreadable(connection, s, timeout=timeout) or s for s in target.siblings]
    # One that cannot be measured is red itself, and must not keep this one from being measured.
    measurable = tuple(s for s in siblings if s.unreadable is None or s.unreadable.complete)
    others = None if measurable == target.siblings else replace(target, siblings=measurable)
    if not target.key or any(not column.not_null for column in target.key):
        return others
    deadline = time.monotonic() + timeout.total_seconds()
    search = _Search(connection=connection, target=target, deadline=deadline)
    found = search.run()
    if not found.rows:
        return others
    keys = [row.key for row in found.rows]
    restricted = _restricted(target, lambda key: all_but(key, keys))
    return replace(restricted, siblings=measurable, unreadable=found)


def _restricted(target: Target, condition: Callable[[Sequence[Column]], sql.Composable]) -> Target:
    """The target with its expressions evaluated where the condition of a key holds."""
    store = target.store
    if store is not None:
        store = replace(store, evaluated=condition(store.key))
    return replace(target, evaluated=condition(target.key), store=store)


def _count(words: Sequence[sql.Composable], target: Target, where: sql.Composable) -> sql.Composed:
    return sql.SQL("SELECT {} FROM {} AS r WHERE {}").format(
        sql.SQL(", ").join(sql.SQL("pg_catalog.count({})").format(word) for word in words),
        rows_of(target),
        where,
    )


class _GivenUpError(Exception):
    """There are too many rows, or too many statements were needed."""


@dataclass(kw_only=True, slots=True)
class _Search:
    connection: Connection
    target: Target
    deadline: float
    _statements: int = 0
    _rows: list[UnreadableRow] = field(default_factory=list)

    def run(self) -> UnreadableRows:
        target = self.target
        (total,) = self._ask(sql.SQL("SELECT count(*) FROM {}").format(target.identifier))
        complete = True
        try:
            if self._raises(None, None) is not None:
                self._halve(None, None, total)
        except _GivenUpError:
            complete = False
        return UnreadableRows(rows=tuple(self._rows), total=total, complete=complete)

    def _halve(self, after: tuple[str, ...] | None, last: tuple[str, ...] | None, n: int) -> None:
        """Find the rows that raise among about `n`, of which at least one does."""
        if n <= 1:
            self._name(after, last)
            return
        middle = self._key_at(after, n // 2)
        if middle is None or middle == last:
            self._name(after, last)
            return
        first_raises = self._raises(after, middle) is not None
        if first_raises:
            self._halve(after, middle, n // 2)
        if not first_raises or self._raises(middle, last) is not None:
            self._halve(middle, last, n - n // 2)

    def _raises(
        self, after: tuple[str, ...] | None, last: tuple[str, ...] | None
    ) -> psycopg.Error | None:
        """The error that some row raises behind a key and up to another, or None."""
        key = self.target.key
        target = self._between(after, last)
        words = columns_of(target)
        evaluated = [words.tenant, words.text, sql.SQL("created_at"), *words.custom.values()]
        evaluated.append(STORED)
        times = (words.updated_at, words.embedded_at)
        evaluated += [word for word in (*times, words.text_hash, words.embedded_text) if word]
        # Said twice: there it keeps others from being evaluated, here an index finds the rows.
        called = [sql.Identifier("r", f"key_{n}") for n, _ in enumerate(key, start=1)]
        return self._error_of(_count(evaluated, target, between(key, after, last, called=called)))

    def _between(self, after: tuple[str, ...] | None, last: tuple[str, ...] | None) -> Target:
        target = replace(self.target, unreadable=None)
        return _restricted(target, lambda key: between(key, after, last))

    def _name(self, after: tuple[str, ...] | None, last: tuple[str, ...] | None) -> None:
        """Name the one row behind a key, or up to another, and what of it raises what."""
        key = self._key_at(after, 1)
        error = self._raises(after, last)
        if key is None or error is None:
            return
        if len(self._rows) == MOST_ROWS:
            raise _GivenUpError
        found = "one of its expressions", reason_of(error)
        own = sql.SQL("NOT ({})").format(all_but(self.target.key, [key]))
        for expression in expressions_of_table(self.target.declared):
            value = sql.SQL("{}::{}").format(embed_sql(expression.source), sql.SQL(expression.type))
            statement = sql.SQL("SELECT pg_catalog.count({}) FROM {} WHERE {}").format(
                value, self.target.identifier, own
            )
            raised = self._error_of(statement)
            if raised is not None:
                found = expression.key, reason_of(raised)
                break
        else:
            found = self._beside(after, last) or found
        self._rows.append(UnreadableRow(key=key, expression=found[0], reason=found[1]))

    def _beside(
        self, after: tuple[str, ...] | None, last: tuple[str, ...] | None
    ) -> tuple[str, str] | None:
        """Which expression raises what that may name columns of the store."""
        target = self._between(after, last)
        if target.store is None:
            return None
        words = columns_of(target)
        named = {"store.where": STORED, "store.text": words.embedded_text or words.text}
        named |= {f"custom.{name}": word for name, word in words.custom.items()}
        for name, word in named.items():
            raised = self._error_of(_count([word], target, sql.SQL("true")))
            if raised is not None:
                return name, reason_of(raised)
        return None

    def _key_at(self, after: tuple[str, ...] | None, n: int) -> tuple[str, ...] | None:
        """The key of the `n`th row behind a key."""
        names = [sql.Identifier(self.target.facts.name, column.name) for column in self.target.key]
        row = self._ask(
            sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY {} OFFSET {} LIMIT 1").format(
                sql.SQL(", ").join(sql.SQL("{}::text").format(name) for name in names),
                self.target.identifier,
                between(self.target.key, after, None),
                sql.SQL(", ").join(names),
                sql.Literal(n - 1),
            )
        )
        return row or None

    def _error_of(self, statement: sql.Composed) -> psycopg.Error | None:
        try:
            with self.connection.transaction():
                self._ask(statement)
        except psycopg.Error as error:
            if not may_be_of_a_row(error):
                raise
            return error
        return None

    def _ask(self, statement: sql.Composed) -> tuple[Any, ...]:
        self._statements += 1
        if self._statements > MOST_STATEMENTS or time.monotonic() > self.deadline:
            raise _GivenUpError
        return self.connection.execute(statement).fetchone() or ()
