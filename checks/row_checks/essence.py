"""What tells one text from another to any model, in Python and in SQL: one notion for both.

Letters and digits alone, without case and accents, as uncased models read them, whose other
characters are often one unknown token; and no more than a short window of a model holds.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from checks.database.server import Server

READ_BY_ANY_MODEL = 400
"""Letters and digits that the smallest common window, of 128 tokens, holds: English prose has four
or five of them a token. Texts that differ behind them may rightly have one vector."""

BEGINNING = 40
"""Letters and digits from which on a common beginning may be all that some model reads."""

_OPTIONAL_POINTS = sql.SQL(r"\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed")
"""Of Hebrew and Arabic, which a text may have or leave out."""


def essence(text: str, *, characters: int | None = None) -> str:
    """What of a text every model may be expected to tell from another's.

    `characters` None: as many as any model reads.
    """
    folded = unicodedata.normalize("NFKD", text).lower().replace("\u03c2", "\u03c3")
    return "".join(filter(str.isalnum, folded))[: characters or READ_BY_ANY_MODEL]


def essence_of(text: sql.Composable, server: Server, *, characters: int | None) -> sql.Composable:
    """SQL for the same of a text.

    Where the server knows letters of ASCII alone, only these lose their case, and only ASCII's
    white space and punctuation is left out. PostgreSQL counts points of Hebrew and Arabic among the
    letters, and leaves a sigma as it is at the end of a word.
    """
    most = sql.Literal(characters or READ_BY_ANY_MODEL)
    if server.folding_collation is None:
        return sql.SQL(
            """pg_catalog.left(pg_catalog.regexp_replace(pg_catalog.lower({text} COLLATE "C"),"""
            """ '[[:space:][:punct:]]', '', 'g'), {most}) COLLATE "C\""""
        ).format(text=text, most=most)
    return sql.SQL(
        "pg_catalog.left(pg_catalog.translate(pg_catalog.regexp_replace(pg_catalog.lower("
        "pg_catalog.normalize({text}, 'NFKD') COLLATE pg_catalog.{collation}),"
        " '[^[:alnum:]]|[{points}]', '', 'g'), E'\\u03c2', E'\\u03c3'), {most}) COLLATE \"C\""
    ).format(
        text=text,
        most=most,
        collation=sql.Identifier(server.folding_collation),
        points=_OPTIONAL_POINTS,
    )
