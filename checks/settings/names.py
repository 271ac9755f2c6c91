"""Parses names of columns and tables, written in the settings as in SQL; asks no database."""

from __future__ import annotations

import hashlib
import re
import string
from dataclasses import dataclass, replace

# PostgreSQL, "Lexical Structure: Identifiers and Key Words". Letters beyond ASCII are allowed, and
# only A to Z are folded: that is what a server with a multi-byte encoding does.
_BARE = re.compile(r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*")
_BARE_PATTERN = re.compile(r"[A-Za-z0-9_$*\x80-\U0010ffff]+")
_NEEDS_NO_QUOTES = re.compile(r"[a-z_][a-z0-9_$]*")
_FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_PART = re.compile(
    r'\s*(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<bare>[^".]*?))\s*(?P<end>\.|\Z)', re.ASCII
)
_LONGEST_SHOWN = 60

LONGEST_NAME = 63
"""Bytes of an identifier (PostgreSQL's NAMEDATALEN less one); what is longer is cut in silence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """What `*` stands for in a schema name and in a table name; None where there is no `*`."""

    schema_part: str | None
    table_part: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TableName:
    """A table's name as PostgreSQL stores it, or a pattern with one `*` in schema or table."""

    schema: str | None
    name: str
    schema_is_pattern: bool = False
    name_is_pattern: bool = False

    @classmethod
    def parse(cls, text: str) -> TableName:
        """Read `table` or `schema.table`; a `*` in an unquoted part makes that part a pattern.

        Raises ValueError, in words, for anything that is not such a name.
        """
        parts = [_unquoted(text, part, pattern_allowed=True) for part in _parts(text)]
        if len(parts) > 2:
            raise ValueError(
                f"expected table or schema.table, found {len(parts)} parts in {_shown(text)}; "
                "put double quotes around a part that holds a dot"
            )
        name, name_is_pattern = parts[-1]
        schema, schema_is_pattern = parts[0] if len(parts) == 2 else (None, False)
        return cls(
            schema=schema,
            name=name,
            schema_is_pattern=schema_is_pattern,
            name_is_pattern=name_is_pattern,
        )

    @property
    def is_pattern(self) -> bool:
        """Whether the name may stand for several tables."""
        return self.schema_is_pattern or self.name_is_pattern

    def match(self, schema: str, name: str) -> Match | None:
        """What each `*` stands for in this table, or None where the table is not meant.

        `*` stands for one character or more: an empty part would name no tenant. A name without
        a schema fits every schema; the search path decides which one is meant.
        """
        schema_part: str | None = None
        if self.schema is not None:
            if self.schema_is_pattern:
                schema_part = _starred(self.schema, schema)
                if schema_part is None:
                    return None
            elif schema != self.schema:
                return None
        table_part: str | None = None
        if self.name_is_pattern:
            table_part = _starred(self.name, name)
            if table_part is None:
                return None
        elif name != self.name:
            return None
        return Match(schema_part=schema_part, table_part=table_part)

    def filled(self, match: Match) -> TableName:
        """This name with each `*` replaced by what it stood for in another name.

        The match of the same part comes first, then that of the other part.
        """
        schema_part = match.schema_part or match.table_part or "*"
        table_part = match.table_part or match.schema_part or "*"
        schema, name = self.schema, self.name
        if schema is not None and self.schema_is_pattern:
            schema = schema.replace("*", schema_part)
        if self.name_is_pattern:
            name = name.replace("*", table_part)
        return replace(
            self, schema=schema, name=name, schema_is_pattern=False, name_is_pattern=False
        )

    def __str__(self) -> str:
        """The name as a person would write it; `parse` reads it back."""
        name = self.name if self.name_is_pattern else display_identifier(self.name)
        if self.schema is None:
            return name
        schema = self.schema if self.schema_is_pattern else display_identifier(self.schema)
        return f"{schema}.{name}"


def parse_identifier(text: str) -> str:
    """The name PostgreSQL stores for an identifier: unquoted folds, double quotes keep all.

    Raises ValueError, in words, for an empty name, unbalanced quotes, dots and anything else that
    is not one identifier.
    """
    parts = _parts(text)
    if len(parts) > 1:
        raise ValueError(
            f"expected one name, found a dot in {_shown(text)}; "
            "put double quotes around a name that holds a dot"
        )
    name, _ = _unquoted(text, parts[0], pattern_allowed=False)
    return name


def display_identifier(name: str) -> str:
    """A stored name as written in SQL, in double quotes only where folding would lose it.

    For people to read: a reserved word stays bare. SQL that is run composes its identifiers.
    """
    if _NEEDS_NO_QUOTES.fullmatch(name):
        return name
    return '"' + name.replace('"', '""') + '"'


def display_name(schema: str, name: str) -> str:
    """A qualified name as a person would write it in SQL: quoted only where it must be."""
    return f"{display_identifier(schema)}.{display_identifier(name)}"


def fitted_name(prefix: str, name: str) -> str:
    """A name of ours that tells of another one, always the same, and no longer than may be.

    A longer one is cut and ends in a part of its md5, so that two that are cut stay apart.
    """
    whole = prefix + name
    if len(whole.encode()) <= LONGEST_NAME:
        return whole
    mark = "_" + hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:8]
    room = LONGEST_NAME - len(prefix.encode()) - len(mark)
    return prefix + name.encode()[:room].decode(errors="ignore") + mark


def _parts(text: str) -> list[re.Match[str]]:
    if text.count('"') % 2:
        raise ValueError(
            f"expected balanced double quotes, found {_shown(text)}; "
            "write a double quote inside a quoted name twice"
        )
    if "\0" in text:
        raise ValueError("expected a name, found one with a NUL character; remove it")
    parts = []
    position = 0
    while True:
        part = _PART.match(text, position)
        if part is None:
            raise ValueError(
                f"expected nothing beside a quoted name, found {_shown(text)}; "
                "put the whole name in one pair of double quotes"
            )
        parts.append(part)
        position = part.end()
        if part["end"] == "":
            return parts


def _unquoted(text: str, part: re.Match[str], *, pattern_allowed: bool) -> tuple[str, bool]:
    """The stored name of one part, and whether it is a pattern."""
    quoted, bare = part["quoted"], part["bare"]
    if not (quoted or bare):
        raise ValueError(f"expected a name, found an empty one in {_shown(text)}; write one")
    if quoted:
        return quoted.replace('""', '"'), False
    is_pattern = pattern_allowed and "*" in bare
    if bare.count("*") > 1 and is_pattern:
        raise ValueError(
            f"expected at most one * in a part of a name, found {_shown(text)}; "
            "what * stands for has to be one piece"
        )
    if not (_BARE_PATTERN if is_pattern else _BARE).fullmatch(bare):
        raise ValueError(
            f"expected a name, found {_shown(text)}; put double quotes around a name that holds "
            "other characters than letters, digits and _"
        )
    return bare.translate(_FOLD), is_pattern


def _starred(pattern: str, actual: str) -> str | None:
    """What `*` stands for, one character or more; None where the pattern does not fit."""
    before, _, after = pattern.partition("*")
    fits = actual.startswith(before) and actual.endswith(after)
    if not fits or len(actual) <= len(before) + len(after):
        return None
    return actual[len(before) : len(actual) - len(after)]


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "...")
