"""Says under which settings our transactions run, whatever a role, a database or PG* has set.

Each begins with all of them, local to it: PgBouncer's transaction mode keeps nothing in between.
Builds SQL only; runs nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import LiteralString

CLIENT_ENCODING = "UTF8"

SETTINGS: Mapping[str, str] = {
    "client_encoding": CLIENT_ENCODING,
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    # Columns without a zone are read as UTC, as the ORMs that make them write them.
    "TimeZone": "UTC",
    "bytea_output": "hex",
    # The shortest digits that are read as the same number: a float is a key, or a vector's element.
    "extra_float_digits": "1",
    # Of `money`, whose text is read back by another session.
    "lc_monetary": "C",
    "array_nulls": "on",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "quote_all_identifiers": "off",
    # Beyond it a GIN index leaves rows out, at random.
    "gin_fuzzy_search_limit": "0",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
"""What changes how a statement or a value is read or written, and what would end one of ours."""

TRANSACTION_TIMEOUT_SINCE = 170000
"""transaction_timeout came with PostgreSQL 17."""

READ_COMMITTED: LiteralString = "ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE"
READ_ONLY: LiteralString = "ISOLATION LEVEL REPEATABLE READ, READ ONLY, NOT DEFERRABLE"
"""Modes of a transaction, each in full: default_transaction_* decides none of it."""


def begin_statement(
    mode: LiteralString, own: Mapping[str, str], *, schema: str | None, server_version: int
) -> bytes:
    """BEGIN and all settings, for one round trip: thousands of tables each have a transaction.

    `own` are settings of this transaction alone, such as its time-outs; `schema` is what stands
    first in the search path, None where the session's own path stands.
    """
    return _begin_statement(mode, tuple(own.items()), schema, server_version)


@lru_cache
def _begin_statement(
    mode: LiteralString, own: tuple[tuple[str, str], ...], schema: str | None, server_version: int
) -> bytes:
    newer = {"transaction_timeout": "0"} if server_version >= TRANSACTION_TIMEOUT_SINCE else {}
    calls = [
        sql.SQL("pg_catalog.set_config({}, {}, true)").format(sql.Literal(name), value)
        for name, value in {
            "search_path": search_path(schema),
            **{
                name: sql.Literal(value)
                for name, value in {**SETTINGS, **newer, **dict(own)}.items()
            },
        }.items()
    ]
    statement = sql.SQL("BEGIN TRANSACTION {}; SELECT {}").format(
        sql.SQL(mode), sql.SQL(", ").join(calls)
    )
    return statement.as_bytes(None)


def search_path(schema: str | None) -> sql.Composable:
    """SQL of the path of our transactions, from inside one of the session's own.

    PostgreSQL's own objects come first, whatever the session's path says, and temporary ones last.
    Between them stands the path of the settings' expressions, which need its functions. So where
    our own SQL meets a type that it does not know, it names the operator's schema: of two that
    fit, PostgreSQL takes the one that fits better, wherever it stands (compare CVE-2018-1058).
    """
    if schema is not None:
        # Several, where the URL names several.
        names = filter(None, (name.strip().strip('"') for name in schema.split(",")))
        quoted = ", ".join(sql.Identifier(name).as_string(None) for name in names)
        return sql.Literal(f"pg_catalog, {quoted}, public, pg_temp")
    return sql.SQL(
        "pg_catalog.concat_ws(', ', 'pg_catalog', CASE WHEN"
        " pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.<>) ''"
        " THEN pg_catalog.current_setting('search_path') END, 'pg_temp')"
    )


def startup_options(schema: str) -> str:
    """The same settings as libpq's `options`, for sessions that no pooler shares.

    For another library's connections, whose transactions are not ours to begin.
    """
    settings = {
        "search_path": schema,
        "idle_session_timeout": "0",
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "off",
        "default_transaction_deferrable": "off",
        **SETTINGS,
    }
    return " ".join(
        f"-c {name}={value.replace(' ', chr(92) + ' ')}"
        for name, value in settings.items()
        if name != "client_encoding"
    )
