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

TITLES = ("title", "name", "subject", "heading", "headline", "question", "summary")
"""Columns that applications put in front of a text."""

_PIECE = re.compile(
    r"""(?P<name>"(?:[^"]|"")+"|[a-z_][\w$]*)(?:\s*->>\s*(?P<key>'(?:[^']|'')*'))?|'(?:[^']|'')*'""",
    re.IGNORECASE,
)
_TEXTS = ("text", "character varying", "character")
_JSON = ("json", "jsonb")


def text_parts_of(target: Target) -> sql.Composable:
    """SQL of an array of booleans, whether a row has each part of its text; () of a text of one."""
    names = (name for name in TITLES if name in target.facts.columns)
    titles = [name for name in names if target.facts.columns[name].type in _TEXTS]
    parts = list(dict.fromkeys([*_parts(target), *titles]))[:MOST_PARTS]
    present = [sql.SQL("({} <> '') IS TRUE").format(sql.SQL(part)) for part in parts]
    listed = sql.SQL(", ").join(present if len(present) > 1 else [])
    return evaluated(target, sql.SQL("ARRAY[{}]::boolean[]").format(listed))


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
