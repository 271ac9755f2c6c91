"""Writes a user's SQL expressions into statements, and validates each before a scan.

Validation plans each expression against its own table and evaluates no row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import psycopg
from psycopg import sql

from checks.database.errors import whole_reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import LiteralString

    from checks.database.connection import Connection


ExpressionType: TypeAlias = str
"""A type as format_type() writes it; what an expression must be castable to."""

_COLUMN = re.compile(r'[A-Za-z_][A-Za-z0-9_]*|"(?:[^"]|"")+"')

_CLOSED = re.compile(
    r"""[eE]'(?:[^'\\]|''|\\.)*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
      | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ | --[^\n]* | /\*.*?\*/""",
    re.VERBOSE | re.DOTALL,
)
"""What quotes and comments hold, where parentheses are no parentheses."""

SEVERAL = (
    "expected one SQL expression, found several or one that ends its own parenthesis;"
    " balance the parentheses, and join several values with concat_ws()"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Expression:
    """One expression of the settings, its key there, and the type it must have."""

    key: str
    source: str
    type: ExpressionType


def embed_sql(source: str) -> sql.Composed:
    """A user's SQL as one operand: a column as it is, anything else in parentheses of its own."""
    return _as_operand(source, before="(", after=")")


def _as_operand(source: str, *, before: LiteralString, after: LiteralString) -> sql.Composed:
    # The settings file is code that its owner runs on their own database, and trusted as such.
    trusted: LiteralString = source.strip()
    if before == "(" and _COLUMN.fullmatch(trusted):
        return sql.Composed([sql.SQL(trusted)])
    # A line break ends a trailing comment, which would swallow the parenthesis.
    end: LiteralString = "\n" if "--" in trusted else ""
    return sql.Composed([sql.SQL(before), sql.SQL(trusted), sql.SQL(end), sql.SQL(after)])


def unnested(arrays: Iterable[sql.Composable]) -> sql.Composed:
    """Arrays side by side as the columns of a relation in FROM."""
    return sql.SQL("ROWS FROM ({})").format(
        sql.SQL(", ").join(sql.SQL("pg_catalog.unnest({})").format(array) for array in arrays)
    )


def beside_parameters(piece: sql.Composable) -> sql.SQL:
    """Escape `%` in SQL for a statement with parameters, where psycopg reads it as a placeholder.

    Statements without parameters must not use it: there `%` stands for itself.
    """
    doubled: LiteralString = piece.as_string(None).replace("%", "%%")
    return sql.SQL(doubled)


def plain_statement(relation: sql.Composable, condition: sql.Composable) -> sql.Composed:
    """A statement with a condition over the rows of one relation; it reads none of them."""
    return sql.SQL("SELECT FROM {} WHERE {} LIMIT 0").format(relation, condition)


def faults_of(
    connection: Connection,
    relation: sql.Composable,
    expressions: Iterable[Expression],
    *,
    around: Callable[[sql.Composable, sql.Composable], sql.Composed] = plain_statement,
) -> list[str]:
    """The faults of the expressions, each with its key in the settings and the server's reason.

    Each is planned in a WHERE clause, which refuses aggregates, window functions and set-returning
    functions: none of them is a fact about one row. Runs in savepoints of the caller's transaction
    and leaves its settings unchanged. `around` builds the statement of a relation and a condition.
    Raises psycopg.OperationalError where the connection is lost or the server gives up.
    """
    return [
        f"{expression.key}: {fault}"
        for expression in expressions
        if (fault := _fault(connection, relation, expression, around)) is not None
    ]


def plan_fault(connection: Connection, statement: sql.Composed) -> str | None:
    """Why the server refuses to plan a statement of ours that reads no row, or None.

    Raises psycopg.OperationalError as `faults_of` does.
    """
    try:
        _plan(connection, statement)
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        return whole_reason_of(error)
    return None


def _fault(
    connection: Connection,
    relation: sql.Composable,
    expression: Expression,
    around: Callable[[sql.Composable, sql.Composable], sql.Composed],
) -> str | None:
    one_operand = embed_sql(expression.source)
    # Parentheses would hide these: they make a row of `a, b`, and `a) OR (b` closes and opens them.
    one_branch = _as_operand(expression.source, before="(CASE WHEN true THEN ", after=" END)")
    try:
        _plan(connection, around(relation, _condition(one_operand, expression.type)))
    except psycopg.OperationalError:
        raise
    except psycopg.errors.SyntaxError as error:
        return unbalanced(expression.source) or whole_reason_of(error)
    except psycopg.Error as error:
        return whole_reason_of(error)
    try:
        _plan(connection, around(relation, _condition(one_branch, expression.type)))
    except psycopg.errors.SyntaxError:
        return unbalanced(expression.source) or SEVERAL
    except psycopg.errors.DatatypeMismatch:
        # CASE gives a bare NULL a type of its own; the first plan has shown that it fits.
        return None
    return None


def unbalanced(source: str) -> str | None:
    """What of an expression is opened and not closed, or the reverse; None where all is closed.

    The server would blame the SQL that we write around it.
    """
    bare = _CLOSED.sub("", source)
    if quote := next((mark for mark in ("'", '"', "/*") if mark in bare), None):
        return f"a {quote} is not closed; found {source.strip()!r}"
    opened, closed = bare.count("("), bare.count(")")
    if opened == closed:
        return None
    return (
        f"its parentheses do not balance: {opened} opened, {closed} closed; found"
        f" {source.strip()!r}"
    )


def _condition(value: sql.Composable, wanted: ExpressionType) -> sql.Composed:
    """A condition that the value can be part of if it is of the type wanted."""
    if wanted == "boolean":
        return sql.SQL("{} IS TRUE").format(value)
    kind: LiteralString = wanted
    return sql.SQL("{}::{} IS NULL").format(value, sql.SQL(kind))


def _plan(connection: Connection, statement: sql.Composed) -> None:
    """Have the server plan the statement, whose LIMIT 0 keeps it from reading a row."""
    with connection.transaction(force_rollback=True):
        # No row is read here, so that policies which hide some are none of its business.
        connection.execute("SET LOCAL row_security = on")
        # Binary results make psycopg use the protocol that takes a single statement.
        connection.execute(statement, binary=True)
