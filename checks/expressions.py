"""A user's SQL expressions: written into statements safely, and validated one by one before a scan.

Validation plans each expression against its own table and evaluates no row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from checks.connection import reason_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import LiteralString

    from checks.connection import Connection


@dataclass(frozen=True, kw_only=True, slots=True)
class Expression:
    """One expression of the settings: where it stands there, and the type it must have."""

    key: str
    source: str
    type: str


def embed_sql(source: str) -> sql.Composed:
    """A user's SQL in parentheses of its own; the line break ends a trailing `--` comment."""
    # The settings file is code that its owner runs on their own database, and trusted as such.
    trusted: LiteralString = source  # type: ignore[assignment]
    return sql.Composed([sql.SQL("(\n"), sql.SQL(trusted), sql.SQL("\n)")])


def beside_parameters(piece: sql.Composable) -> sql.SQL:
    """The piece for a statement that carries parameters, where psycopg reads `%` as a placeholder.

    Statements without parameters must not use it: there `%` stands for itself.
    """
    doubled: LiteralString = piece.as_string(None).replace("%", "%%")  # type: ignore[assignment]
    return sql.SQL(doubled)


def faults_of(
    connection: Connection, relation: sql.Composable, expressions: Iterable[Expression]
) -> list[str]:
    """The faults of the expressions, each with its key in the settings and the server's reason.

    In a WHERE clause, where aggregates, window functions and set-returning functions are refused,
    as none of them is a fact about one row. Runs in savepoints of the caller's transaction.
    """
    faults = []
    for expression in expressions:
        value = embed_sql(expression.source)
        condition = (
            value
            if expression.type == "boolean"
            else sql.SQL("{}::{} IS NULL").format(value, sql.SQL(expression.type))
        )
        statement = sql.SQL("SELECT FROM {} WHERE {} LIMIT 0").format(relation, condition)
        try:
            with connection.transaction():
                connection.execute(statement)
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            faults.append(f"{expression.key}: {reason_of(error)}")
    return faults
