"""Reads texts of a SQL_ASCII database, where a text may be any bytes, as UTF-8 or as what they are.

Such a database converts nothing: a text that is not UTF-8 would end the statement that returns it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from checks.database.server import Server

SQL_ASCII = "SQL_ASCII"

_UTF_8 = (
    r"^([\u0001-\u007f]|[\u00c2-\u00df][\u0080-\u00bf]|\u00e0[\u00a0-\u00bf][\u0080-\u00bf]"
    r"|[\u00e1-\u00ec\u00ee\u00ef][\u0080-\u00bf]{2}|\u00ed[\u0080-\u009f][\u0080-\u00bf]"
    r"|\u00f0[\u0090-\u00bf][\u0080-\u00bf]{2}|[\u00f1-\u00f3][\u0080-\u00bf]{3}"
    r"|\u00f4[\u0080-\u008f][\u0080-\u00bf]{2})*$"
)
"""Well-formed UTF-8, byte by byte (the Unicode Standard, table 3-7): SQL_ASCII's characters."""


def as_sent(text: sql.Composable, server: Server) -> sql.Composable:
    """SQL that returns a text whatever its bytes are; `as_read` reads what comes of it."""
    if server.encoding != SQL_ASCII:
        return text
    return sql.SQL("pg_catalog.convert_to({}, 'SQL_ASCII')").format(text)


def as_read(sent: str | bytes) -> str:
    """The text; what is no UTF-8 in it is there as lone surrogates, which nothing can send on."""
    return sent if isinstance(sent, str) else sent.decode("utf-8", "surrogateescape")


def is_utf_8(text: str) -> bool:
    """Whether all of what `as_read` gave was UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def readable(name: sql.Composable, server: Server) -> sql.Composable:
    r"""SQL of a name that can always be returned: one that is no UTF-8 is told as `M\374ller`."""
    if server.encoding != SQL_ASCII:
        return name
    return sql.SQL(
        "CASE WHEN {utf_8} THEN {name}"
        " ELSE pg_catalog.encode(pg_catalog.convert_to({name}, 'SQL_ASCII'), 'escape') END"
    ).format(name=name, utf_8=is_readable(name))


def is_readable(name: sql.Composable) -> sql.Composable:
    """SQL that says of a text of such a database whether it is UTF-8."""
    return sql.SQL('{} COLLATE "C" ~ {}').format(name, sql.Literal(_UTF_8))
