"""Parses connection URLs as libpq and other clients write them, and their key=value strings.

Never prints a URL or a part of it, and opens no connection.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from checks.database.connection import ConnectionTarget
from checks.database.url_parameters import is_known, read_parameters
from checks.errors import ConnectionUrlError
from checks.redaction import redactor

if TYPE_CHECKING:
    from collections.abc import Mapping

_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9_+.-]*://")
_SCHEME = re.compile(r"postgres(?:ql)?|p(?:g)?sql|pg(?:x5?)?|postgis|timescale(?:db|gis)?|ecto")
"""Of SQLAlchemy, Django, Laravel, Go and Ecto."""
_DRIVER = re.compile(r"^(\w+)\+\w+(?=://)")
"""SQLAlchemy's, behind the scheme; `psycopg_async` is no part of one by RFC 3986."""
_PDO = re.compile(r"^pgsql:(?=\s*\w+\s*=)")
"""Of PHP, before words with semicolons."""
_WRAPPER = re.compile(
    r"(?:jdbc|r2dbcs?|vertx-reactive)(?::[a-z0-9-]+)*?:(?=postgres|pgsql)", re.IGNORECASE
)
"""Of Java, with a pool's or a driver's name between."""
_JUST_DATABASE = re.compile(r"^(postgres(?:ql)?:)/?(?=[A-Za-z_][\w-]*(?:\?|$))")
"""JDBC's short form, which names no host."""
_HOST = re.compile(r"[A-Za-z0-9_.:%-]+|/[^\s@]+|@?[\w/.-]*")
_WORD = re.compile(r"\s*([A-Za-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s';]*)(?:\s+|$)")
"""A word of libpq's form, and its value, quoted or not."""
_DOT_NET_WORD = re.compile(
    r"""\s*([A-Za-z][A-Za-z ]*?)\s*=\s*("[^"]*"|'[^']*'|[^;]*?)\s*(?:;\s*|$)"""
)
"""One of Npgsql's form, which ends at a semicolon."""
_PASSWORDS = re.compile(
    r"""(?:password|pwd)\s*=\s*("[^"]*"|'(?:[^'\\]|\\.)*'|[^\s&;]+)""", re.IGNORECASE
)


def parse_url(url: str, *, variable: str) -> ConnectionTarget:
    """Understand the forms of a connection URL that clients of PostgreSQL have.

    What only another client reads is left out, and its name kept in `dropped`. Raises
    `ConnectionUrlError`, which names the variable and shows nothing of its value.
    """
    url = url.strip()
    if url[:1] in ("'", '"') and url[-1:] == url[:1]:
        # As it stands in a file that a shell would read.
        url = url[1:-1].strip()
    _register_password(url)
    target = None
    try:
        if "\0" in url:
            # libpq would take what comes before it for the whole.
            raise ValueError
        plain = _JUST_DATABASE.sub(r"\1///", _WRAPPER.sub("", url, count=1))
        if _HAS_SCHEME.match(plain):
            target = _url_form(_DRIVER.sub(r"\1", plain))
        else:
            target = _keyword_form(_PDO.sub("", url))
    except (psycopg.Error, ValueError):
        pass
    if target is not None:
        for name in ("password", "sslpassword"):
            redactor.add(target.parameters.get(name))
        return replace(target, variable=variable)
    # Raised out here so that no traceback carries libpq's error, which repeats what it was given.
    raise ConnectionUrlError(
        f"the value of {variable} is not a PostgreSQL connection URL: expected"
        " postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters"
        " percent-encoded; the value is not shown, as it may hold a password"
    )


def _url_form(url: str) -> ConnectionTarget:
    """Raises ValueError or psycopg's errors for what is no such URL, or is ambiguous."""
    parts = urlsplit(url)
    if not _SCHEME.fullmatch(parts.scheme) or parts.fragment:
        raise ValueError
    # An @ after the host most likely ends a password that holds an unencoded / or ?;
    # what comes before it would be taken for a database, and shown.
    if "@" in parts.path or ("@" in parts.query and "@" not in parts.netloc):
        raise ValueError
    found = read_parameters(parts.query)
    query = "&".join(f"{name}={value}" for name, value in found.for_libpq.items())
    plain = f"postgresql://{parts.netloc}{parts.path}" + ("?" + query if query else "")
    return ConnectionTarget(
        parameters=_sane(conninfo_to_dict(plain)),
        search_path=found.search_path,
        dropped=tuple(found.dropped),
        taken_as=tuple(found.taken_as),
    )


def _keyword_form(words: str) -> ConnectionTarget:
    try:
        return ConnectionTarget(parameters=_sane(conninfo_to_dict(words)))
    except (psycopg.Error, ValueError):
        pairs = _pairs(words, _DOT_NET_WORD)
        hosts = [value for name, value in pairs if name.lower() in ("host", "server")]
        if not hosts or any(re.search(r"\s", host) for host in hosts):
            # As Go's clients write it. A name that nobody knows may be of a password's piece.
            pairs = [(name, re.sub(r"\\(.)", r"\1", value)) for name, value in _pairs(words, _WORD)]
            if not pairs or not all(is_known(name) for name, _ in pairs):
                raise
    return _url_form(
        "postgresql:///?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in pairs)
    )


def _pairs(words: str, word: re.Pattern[str]) -> list[tuple[str, str]]:
    """Names without blanks, and values without quotes; [] where the words are of another form."""
    pairs, end = [], 0
    while end < len(words):
        found = word.match(words, end)
        if found is None:
            return []
        name, value = found.groups()
        pairs.append((name.replace(" ", ""), value[1:-1] if value[:1] in ("'", '"') else value))
        end = found.end()
    return pairs


def _register_password(url: str) -> None:
    """Register what may be the password before anything can go wrong with the value."""
    credentials = url.partition("://")[2].rpartition("@")[0]
    password = credentials.partition(":")[2]
    redactor.add(password)
    redactor.add(unquote(password))
    for word in _PASSWORDS.findall(url):
        redactor.add(word.strip("'\""))
        redactor.add(unquote(word))


def _sane(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Refuse a port or host that may be half a password: libpq would repeat it in an error."""
    words = {name: str(value) for name, value in parameters.items() if value is not None}
    ports = words.get("port", "").split(",")
    hosts = words.get("host", "").split(",")
    if not all(
        port == "" or (port.isascii() and port.isdecimal() and 0 < int(port) < 65536)
        for port in ports
    ):
        raise ValueError
    if not all(_HOST.fullmatch(host) for host in hosts):
        raise ValueError
    if any(character < " " for value in words.values() for character in value):
        raise ValueError
    return words
