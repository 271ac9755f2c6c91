"""Finds vectors that stand under different texts, such as a stub or a default one.

Builds SQL only; runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.row_checks.row_check import RowCheck, set_of

if TYPE_CHECKING:
    from checks.row_checks.row_relation import RowWords
    from checks.targets.target import Target

NAME = "uniqueness"


def _holds_shared_vector(target: Target, row: RowWords) -> sql.Composable:
    """Whether a row holds a vector that stands under different texts.

    IS TRUE keeps PostgreSQL from joining the set: hashed, an empty one, as it mostly is, is told
    without reading a vector.
    """
    members = set_of(NAME)
    ending = sql.SQL(" IS TRUE")
    if row.for_people:
        members, ending = sql.SQL("({})").format(_shared_vectors(target, row)), sql.SQL("")
    return sql.SQL("{} IS NOT NULL AND {} AND (pg_catalog.md5({}) IN {}){}").format(
        row.embedding, row.embeddable, _bytes(target, row), members, ending
    )


def _shared_vectors(target: Target, row: RowWords) -> sql.Composable:
    """The md5 of every vector under different texts, over all tenants.

    A piece of a hash tells the vectors that may stand twice; those alone are then read again with
    their texts, and grouped byte for byte. So a healthy table is read once, and no sort or hash
    ever holds all of its vectors. Sets travel through arrays because PostgreSQL takes those for
    ten rows: it would not hash a set that it takes for a large one, but search it row by row.
    """
    stored = _bytes(target, row)
    if row.for_people:
        return sql.SQL(
            """SELECT pg_catalog.md5({stored}) {source}
       AND {embedding} IS NOT NULL AND {embeddable}
       GROUP BY {stored} HAVING min({text} COLLATE "C") <> max({text} COLLATE "C")"""
        ).format(
            stored=stored,
            source=row.source,
            embedding=row.embedding,
            embeddable=row.embeddable,
            text=row.text,
        )
    return sql.SQL(
        """SELECT pg_catalog.unnest(pg_catalog.array_agg(pg_catalog.md5(stored)))
FROM (
    SELECT stored
    FROM (
        SELECT {stored} AS stored, {text} COLLATE "C" AS text {source}
          AND {embedding} IS NOT NULL AND {embeddable}
          AND ({fingerprint} IN (
              SELECT pg_catalog.unnest(pg_catalog.array_agg(fingerprint)) FROM (
                  SELECT {fingerprint} AS fingerprint {source} AND {embedding} IS NOT NULL
                  GROUP BY 1 HAVING count(*) > 1
              ) AS repeated
          )) IS TRUE
    ) AS candidate
    GROUP BY stored
    HAVING min(text) <> max(text)
) AS shared"""
    ).format(
        stored=stored,
        text=row.text,
        source=row.source,
        embedding=row.embedding,
        embeddable=row.embeddable,
        fingerprint=_fingerprint(stored),
    )


def _fingerprint(stored: sql.Composable) -> sql.Composable:
    """64 bits of the md5: 8 bytes a row instead of the vector's 6,148 (1,536 dimensions)."""
    return sql.SQL("('x' || pg_catalog.left(pg_catalog.md5({}), 16))::bit(64)::bigint").format(
        stored
    )


def _bytes(target: Target, row: RowWords) -> sql.Composable:
    return target.embedding_type.bytes(row.embedding, target.server.vector_schema)


CHECK = RowCheck(
    name=NAME,
    order=6,
    says="have a vector that stands under a different text as well",
    remedy="re-embed",
    predicate=_holds_shared_vector,
    members=_shared_vectors,
    meaningful=lambda target: target.text_is_known,
)
