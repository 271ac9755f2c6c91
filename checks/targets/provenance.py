"""Builds SQL to read and write the columns that say what an embedding was made from.

Builds expressions only; runs nothing, and decides nothing about pass or fail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.expressions import embed_sql
from checks.database.undecodable import SQL_ASCII

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checks.database.catalog import Column
    from checks.database.server import Server

LETTERS: Mapping[str, int] = {
    "md5": 32,
    "sha1": 40,
    "sha224": 56,
    "sha256": 64,
    "sha384": 96,
    "sha512": 128,
}
"""Hexadecimal digits of a digest, by its name; any other `hash` is an SQL expression."""

TIME_TYPES = ("timestamp with time zone", "timestamp without time zone", "date")

_TYPMOD = re.compile(r"\((\d+)\)")


@dataclass(frozen=True, kw_only=True, slots=True)
class HashType:
    """A column type that may hold a digest: how SQL turns it into hexadecimal digits and back."""

    names: frozenset[str]
    to_text: sql.SQL
    from_text: sql.SQL

    def as_text(self, column: sql.Composable) -> sql.Composable:
        """SQL for the hash in hexadecimal digits, as md5() writes it."""
        return self.to_text.format(column)

    def from_digits(self, digits: sql.Composable) -> sql.Composable:
        """SQL for a digest's hexadecimal digits as the column holds it."""
        return self.from_text.format(digits)


HASH_TYPES = (
    HashType(
        names=frozenset({"uuid"}),
        to_text=sql.SQL("pg_catalog.replace({}::text, '-', '')"),
        from_text=sql.SQL("{}::uuid"),
    ),
    HashType(
        names=frozenset({"bytea"}),
        to_text=sql.SQL("pg_catalog.encode({}, 'hex')"),
        from_text=sql.SQL("pg_catalog.decode({}, 'hex')"),
    ),
    HashType(
        names=frozenset({"text", "character varying", "character"}),
        to_text=sql.SQL("pg_catalog.lower({}::text)"),
        from_text=sql.SQL("{}"),
    ),
)


def kept_text(column: sql.Composable) -> sql.Composable:
    """SQL of a value as text that a cast to the column's type turns back into the same value.

    It goes through JSON, whose times are ISO 8601 whatever the session's DateStyle.
    """
    return sql.SQL("(pg_catalog.to_json({}) OPERATOR(pg_catalog.#>>) '{{}}')").format(column)


def hash_type_of(column: Column) -> HashType:
    """How a declared hash column is read and written. Raises LookupError for another type."""
    for kind in HASH_TYPES:
        if column.type in kind.names:
            return kind
    raise LookupError(f"no hash can be held by a column of type {column.type}")


def digest_of(function: str, text: sql.Composable, server: Server) -> sql.Composable:
    """SQL for the digest of a text in hexadecimal digits; NULL for NULL."""
    if function == "md5":
        return sql.SQL("pg_catalog.md5({})").format(text)
    encoding = sql.Literal(SQL_ASCII if server.encoding == SQL_ASCII else "UTF8")
    content = sql.SQL("pg_catalog.convert_to({}, {})").format(text, encoding)
    if function == "sha1":
        return sql.SQL("pg_catalog.encode({}({}, 'sha1'), 'hex')").format(
            sql.Identifier(server.pgcrypto_schema or "public", "digest"), content
        )
    return sql.SQL("pg_catalog.encode({}({}), 'hex')").format(
        sql.Identifier("pg_catalog", function), content
    )


def stored_hash(column: Column, declared: str, value: sql.Composable) -> sql.Composable:
    """SQL of a stored hash as text: hexadecimal digits, or as it is for an SQL expression."""
    if declared not in LETTERS:
        return sql.SQL("{}::text").format(value)
    return hash_type_of(column).as_text(value)


def wanted_hash(
    column: Column, declared: str, text: sql.Composable, server: Server
) -> sql.Composable:
    """SQL over the table's own columns of what `stored_hash` is where the text is unchanged."""
    if declared not in LETTERS:
        kind = sql.SQL(column.full_type)
        return sql.SQL("{}::{}::text").format(embed_sql(declared), kind)
    return digest_of(declared, text, server)


def hash_to_store(column: Column, declared: str, wanted: sql.Composable) -> sql.Composable:
    """SQL that turns what `wanted_hash` gives into the column's type."""
    if declared not in LETTERS:
        return sql.SQL("{}::{}").format(wanted, sql.SQL(column.full_type))
    return hash_type_of(column).from_digits(wanted)


def hash_fault(column: Column, function: str, server: Server) -> str | None:
    """Why a column cannot hold the digest of a text, or None."""
    if function not in LETTERS:
        return None
    if function == "sha1" and server.pgcrypto_schema is None:
        return (
            "is declared to hold sha1, which PostgreSQL has in the extension pgcrypto alone; run"
            " CREATE EXTENSION pgcrypto, or leave content_hash out"
        )
    names = sorted(name for kind in HASH_TYPES for name in kind.names)
    if column.type not in names:
        return f"is of type {column.full_type}; expected one of {', '.join(names)}"
    letters = LETTERS[function]
    length = _TYPMOD.search(column.full_type)
    if length is not None and int(length[1]) < letters:
        return f"is of type {column.full_type}, too short for the {letters} digits of {function}"
    if column.type == "uuid" and letters != LETTERS["md5"]:
        return f"is of type uuid, too short for the {letters} digits of {function}"
    return None


def time_fault(column: Column) -> str | None:
    """Why a column cannot hold the time of an embedding, or None."""
    if column.type in TIME_TYPES:
        return None
    return f"is of type {column.full_type}; expected one of {', '.join(TIME_TYPES)}"


def time_as_stored(column: Column, value: sql.Composable) -> sql.Composable:
    """SQL for a time as the column holds it, never before `value`: a coarse type is rounded up.

    timestamp(3), as Prisma makes it, would otherwise round a time to one before the edit.
    """
    precision = _TYPMOD.search(column.full_type)
    if column.type == "date":
        unit = "1 day"
    elif precision is not None and int(precision[1]) < 6:
        unit = f"{10.0 ** -int(precision[1]):.6f} seconds"
    else:
        return value
    kind = sql.SQL(column.full_type)
    return sql.SQL(
        "CASE WHEN {value}::{kind} < {value} THEN {value} + {unit}::interval ELSE {value} END"
    ).format(value=value, kind=kind, unit=sql.Literal(unit))
