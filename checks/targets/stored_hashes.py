"""Holds the stored content hashes of some rows against the digest that is declared.

A hash of another form, or of something else than the text, would make every row look edited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from checks.database.expressions import embed_sql
from checks.targets.provenance import LETTERS, digest_of, hash_type_of
from checks.targets.relation_problems import Problem

if TYPE_CHECKING:
    from checks.database.connection import Connection
    from checks.targets.target import Target

SAMPLE = 200
"""Rows that have a hash and are looked at."""
ENOUGH = 20
"""Rows of the right form of which at least one must hold the digest of its text: not all rows of a
table were edited since they were embedded."""


def hash_problems(connection: Connection, target: Target) -> tuple[Problem, ...]:
    """Why the stored hashes are not what is declared; nothing where they cannot be read."""
    held = target.provenance_column("content_hash")
    if held is None:
        return ()
    function, relation = target.declared.hash, target.holder if held.in_store else target.facts
    stored = hash_type_of(held.column).as_text(sql.Identifier(held.column.name))
    same: sql.Composable = sql.SQL("NULL::boolean")
    if target.store is None:
        text = sql.SQL("{}::text").format(embed_sql(target.declared.text))
        same = sql.SQL("{} = {}").format(stored, digest_of(function, text))
    statement = sql.SQL(
        """
SELECT count(*), count(*) FILTER (WHERE digits ~ {form}), count(same), count(*) FILTER (WHERE same),
       mode() WITHIN GROUP (ORDER BY CASE WHEN digits ~ '^[0-9a-f]+$' THEN length(digits) END)
FROM (SELECT {stored} AS digits, {same} AS same FROM {table} WHERE {column} IS NOT NULL
      LIMIT {limit}) AS sampled
"""
    ).format(
        form=sql.Literal(f"^[0-9a-f]{{{LETTERS[function]}}}$"),
        stored=stored,
        same=same,
        table=sql.Identifier(relation.schema, relation.name),
        column=sql.Identifier(held.column.name),
        limit=sql.Literal(SAMPLE),
    )
    try:
        with connection.transaction():
            row = connection.execute(statement).fetchone()
    except psycopg.Error:
        if connection.closed:
            raise
        return ()  # the scan will say what is in the way
    rows, formed, compared, right, digits = row or (0, 0, 0, 0, None)
    if not rows:
        return ()
    setting = f"{target.name}: content_hash: column {held.column.name!r}"
    if not formed and digits is not None:
        other = next((name for name, letters in LETTERS.items() if letters == digits), None)
        step = f'declare hash = "{other}"' if other else "no such digest is known"
        text_of_problem = (
            f"{setting} holds {digits} hexadecimal digits in sampled rows, not the"
            f" {LETTERS[function]} of {function}; {step}, or leave content_hash out"
        )
        return (Problem(text=text_of_problem),)
    if compared >= ENOUGH and not right:
        return (
            Problem(
                text=f"{setting} holds the {function} of the text in none of {compared:,} sampled"
                " rows, so it is of something else; correct `text` or `hash`, or leave content_hash"
                " out"
            ),
        )
    return ()
