"""Tells which parts of its text a row has: what the expression names, and titles it may lack.

A probe of rows that all lack a title says nothing of what stands between title and text. Builds SQL
only; runs nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from psycopg import sql

from checks.row_checks.row_expressions import evaluated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import LiteralString

    from checks.targets.target import Target

MOST_PARTS = 8
MOST_JSON = 2_000
"""Bytes of a JSON value that is looked into: a larger one is hardly metadata, and costs a read."""

TITLES = ("title", "name", "subject", "heading", "headline", "question", "summary")
"""Columns that applications put in front of a text."""

_KEYS = sql.SQL(
    "(SELECT count(*) FROM pg_catalog.jsonb_each(CASE WHEN pg_catalog.pg_column_size({own}) <="
    " {most} AND pg_catalog.jsonb_typeof({own}) = 'object' THEN {own} END) AS e (k, v)"
    " WHERE v OPERATOR(pg_catalog.<>) 'null'::jsonb)"
)

_PIECE = re.compile(
    r"""(?P<name>"(?:[^"]|"")+"|[a-z_][\w$]*)(?:\s*->>\s*(?P<key>'(?:[^']|'')*'))?|'(?:[^']|'')*'""",
    re.IGNORECASE,
)
_TEXTS = ("text", "character varying", "character")
_JSON = ("json", "jsonb")


def text_parts_of(target: Target) -> sql.Composable:
    """SQL of an array of integers that tells rows apart by their parts; the more, the greater.

    Whether a row has each part of its text, and how many other values that may stand beside it.
    """
    names = (name for name in TITLES if name in target.facts.columns)
    titles = [name for name in names if target.facts.columns[name].type in _TEXTS]
    parts = list(dict.fromkeys([*_parts(target), *titles]))[:MOST_PARTS]
    present = [sql.SQL("(({} <> '') IS TRUE)::integer").format(sql.SQL(part)) for part in parts]
    listed = sql.SQL(", ").join([*(present if len(present) > 1 else []), *_beside(target)])
    return evaluated(target, sql.SQL("ARRAY[{}]::integer[]").format(listed))


def _beside(target: Target) -> Iterator[sql.Composable]:
    """SQL of how many columns of text and keys of JSON a row has: any may be in the vector too."""
    columns = [column for column in target.facts.columns.values() if column.readable]
    texts = [sql.Identifier(column.name) for column in columns if column.type in _TEXTS]
    if texts:
        yield sql.SQL("pg_catalog.num_nonnulls({})").format(sql.SQL(", ").join(texts))
    for column in columns:
        if column.type == "jsonb":
            own = sql.Identifier(column.name)
            yield _KEYS.format(own=own, most=sql.Literal(MOST_JSON))


def text_traits(text: sql.Composable) -> sql.Composable:
    """SQL of an array of 0 and 1, whether a text has what applications commonly change in one:
    line breaks, white space at its ends and twice in it, signs of HTML, quotation marks, signs of
    Markdown, signs beyond ASCII."""
    # Collation "C", as no pattern can be held against a text of a nondeterministic one.
    return sql.SQL(
        r"""ARRAY[{text} ~ '[\n\r]', {text} ~ '^\s|\s$', {text} ~ '\S\s\s+\S',
        {text} ~ '[<>&]', {text} ~ '["'']', {text} ~ '[*_`#]',
        {text} ~ '[^\x01-\x7f]']::boolean[]::integer[]"""
    ).format(text=sql.SQL('{} COLLATE "C"').format(text))


def _parts(target: Target) -> Iterator[LiteralString]:
    for piece in _PIECE.finditer(target.declared.text):
        written, key = piece["name"], piece["key"]
        if written is None:
            continue
        quoted = written.startswith('"')
        name = written[1:-1].replace('""', '"') if quoted else written.lower()
        column = target.facts.columns.get(name)
        # As the owner of the database wrote it in the settings.
        own: LiteralString = written
        of_key: LiteralString = f"{own}::jsonb ->> {key}"
        if column is not None and column.type in _TEXTS and key is None:
            yield own
        elif column is not None and column.type in _JSON and key is not None:
            yield of_key
