"""Holds the stored content hashes of some rows against the digest that is declared.

A hash of another form, or of something else than the text, would make every row look edited.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from checks.database.expressions import embed_sql
from checks.targets.provenance import LETTERS, stored_hash, wanted_hash
from checks.targets.relation_problems import Problem
from checks.targets.store_rows import STORE, own_column, own_rows, same_key, store_column

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checks.database.connection import Connection
    from checks.targets.stores import PlacedColumn, StoreTable
    from checks.targets.target import Target

SAMPLE = 200
"""Rows that have a hash and are looked at."""
ENOUGH = 20
"""Rows of the right form of which at least one must hold the digest of its text: not all rows of a
table were edited since they were embedded. Of fewer rows, where no hash stands under two texts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sampled:
    """Counts of sampled hashes: of which form, and how many are of their text."""

    rows: int
    formed: int
    right: int
    repeated: int
    """Rows whose hash stands under another text too."""
    other_form: int
    """Rows with as many hexadecimal digits as another known digest has."""
    other_digits: int | None
    """The most frequent number of digits among those."""


def hash_problems(connection: Connection, target: Target) -> tuple[Problem, ...]:
    """Why the stored hashes are not what is declared; nothing where they cannot be read."""
    held = target.provenance_column("content_hash")
    if held is None or held.column.generated:
        return ()
    try:
        with connection.transaction():
            row = connection.execute(_counts(target, held)).fetchone()
    except psycopg.Error:
        if connection.closed:
            raise
        return ()  # the scan will say what is in the way
    if row is None or not row[0]:
        return ()
    sampled = _Sampled(
        rows=row[0],
        formed=row[1],
        right=row[2],
        repeated=row[3],
        other_form=row[4],
        other_digits=row[5],
    )
    place = target.holder if held.in_store else target.facts
    setting = f"{target.name}: content_hash: column {held.column.name!r} of {place.name}"
    return tuple(Problem(text=f"{setting} {fault}") for fault in _faults(target, sampled))


def _faults(target: Target, sampled: _Sampled) -> Iterable[str]:
    declared = target.declared.hash
    letters, what = LETTERS.get(declared), declared
    if letters is None:
        what = "declared hash"
    elif sampled.other_form:
        other = next(name for name, count in LETTERS.items() if count == sampled.other_digits)
        yield (
            f"holds {sampled.other_digits} hexadecimal digits in {sampled.other_form:,} of"
            f" {sampled.rows:,} sampled rows, not the {letters} of {declared}; declare"
            f' hash = "{other}", or an SQL expression of what it holds, or leave content_hash out'
        )
        return
    elif not sampled.formed:
        yield (
            f"holds the {letters} hexadecimal digits of {declared} in none of"
            f" {sampled.rows:,} sampled rows; declare as `hash` an SQL expression of what it holds,"
            " or leave content_hash out"
        )
        return
    if not sampled.right and (sampled.formed >= ENOUGH or sampled.repeated):
        yield (
            f"holds the {what} of the text in none of {sampled.formed:,} sampled rows, so it is of"
            " something else; correct `text` or `hash`, or leave content_hash out"
        )


def _counts(target: Target, held: PlacedColumn) -> sql.Composed:
    letters = LETTERS.get(target.declared.hash)
    form: sql.Composable = sql.SQL("true")
    if letters is not None:
        form = sql.SQL("kept ~ {}").format(sql.Literal(f"^[0-9a-f]{{{letters}}}$"))
    others = [count for count in LETTERS.values() if count != letters] if letters else []
    return sql.SQL(
        """
SELECT count(*), count(*) FILTER (WHERE {form}), count(*) FILTER (WHERE {form} AND kept = wanted),
       count(*) FILTER (WHERE {form} AND least_wanted IS DISTINCT FROM most_wanted),
       count(*) FILTER (WHERE {other}),
       pg_catalog.mode() WITHIN GROUP (ORDER BY length(kept)) FILTER (WHERE {other})
FROM (SELECT *, min(wanted COLLATE "C") OVER of_hash AS least_wanted,
             max(wanted COLLATE "C") OVER of_hash AS most_wanted
      FROM ({sampled}) AS sampled
      WHERE kept ~ '[^[:space:]]'
      WINDOW of_hash AS (PARTITION BY kept)) AS compared
"""
    ).format(
        form=form,
        other=sql.SQL("kept ~ '^[0-9a-f]+$' AND length(kept) = ANY({}::int[])").format(
            sql.Literal(others)
        ),
        sampled=_sampled(target, held),
    )


def _sampled(target: Target, held: PlacedColumn) -> sql.Composed:
    """Some rows with a hash: what is `kept`, and what is `wanted` where the text is unchanged."""
    declared, column = target.declared, held.column
    wanted = wanted_hash(
        column, declared.hash, sql.SQL("{}::text").format(embed_sql(declared.text)), target.server
    )
    if not target.text_is_known:
        wanted = sql.SQL("NULL::text")
    name = sql.Identifier(column.name)
    if target.store is not None and held.in_store:
        return _sampled_in_store(target, target.store, held, wanted)
    where = sql.SQL("true") if declared.where is None else embed_sql(declared.where)
    return sql.SQL(
        "SELECT {kept} AS kept, {wanted} AS wanted FROM {table}"
        " WHERE {name} IS NOT NULL AND {where} LIMIT {limit}"
    ).format(
        kept=stored_hash(column, declared.hash, name),
        wanted=wanted,
        table=target.identifier,
        name=name,
        where=where,
        limit=sql.Literal(SAMPLE),
    )


def _sampled_in_store(
    target: Target, store: StoreTable, held: PlacedColumn, wanted: sql.Composable
) -> sql.Composed:
    declared, column = target.declared, held.column
    own: sql.Composable = own_column("integrity_text_hash")
    if target.repeats and store.declared.text is not None and declared.hash in LETTERS:
        own = wanted_hash(column, declared.hash, store_column("integrity_text"), target.server)
    text: sql.Composable = sql.SQL("NULL::text")
    if store.declared.text is not None:
        text = sql.SQL("{}::text").format(embed_sql(store.declared.text))
    # The store's rows are picked first: the table's own are then found by their key.
    return sql.SQL(
        """SELECT {kept} AS kept, {wanted} AS wanted
      FROM (SELECT {store}.*, {text} AS integrity_text FROM {table} AS {store}
            WHERE {name} IS NOT NULL LIMIT {limit}) AS {store}
      JOIN {own} ON {same}"""
    ).format(
        kept=stored_hash(column, declared.hash, store_column(column.name)),
        wanted=own,
        store=STORE,
        text=text,
        table=store.identifier,
        name=sql.Identifier(column.name),
        limit=sql.Literal(SAMPLE),
        own=own_rows(
            target,
            [sql.SQL("{} AS integrity_text_hash").format(wanted)],
            sql.SQL("true") if declared.where is None else embed_sql(declared.where),
        ),
        same=same_key(target.key, store.key),
    )
