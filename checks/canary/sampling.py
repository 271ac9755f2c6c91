"""Draws the sample of a canary: a few healthy rows of each segment, the same for the same seed.

Reads only, in the caller's transaction; judges nothing and asks no provider.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from psycopg import sql

from checks.database.undecodable import as_read, as_sent, is_utf_8
from checks.database.vectors.types import vector_bytes, vector_read
from checks.row_checks.row_relation import rows_of
from checks.scanning.scan_statement import among

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from checks.database.connection import Connection
    from checks.row_checks.row_check import AppliedCheck
    from checks.targets.target import Target


CANDIDATES = 4
"""Rows that are read for each one that is sampled: some of them may be anything but healthy."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SampledRow:
    """A healthy row: its key as text (empty where the table has none), text and stored vector.

    The vector is float32 of shape (dimensions,), None where only texts were read; `vector_hash`
    is the md5 of its binary form.
    """

    tenant: str | None
    key: tuple[str, ...]
    identity: str
    """The key as one text, as `rows_of` writes it."""
    text: str
    vector: NDArray[np.float32] | None = None
    vector_hash: str = ""


def draw(
    connection: Connection,
    target: Target,
    checks: Sequence[AppliedCheck],
    *,
    tenants: Sequence[str | None],
    rows: int,
    seed: int,
    vectors: bool = True,
) -> Iterator[SampledRow]:
    """Up to `rows` rows of each tenant that fail no `re-embed` check, tenant by tenant.

    Rows are chosen by a hash of the key and the seed. A vector that is not finite or not of the
    declared dimension proves nothing, nor does a text that is no UTF-8: its row is left out.
    Raises psycopg's errors.
    """
    statement = compile_draw(target, checks, tenants=tenants, rows=rows, seed=seed, vectors=vectors)
    for tenant, identity, *key, sent, stored, stored_hash in connection.execute(statement):
        text = as_read(sent)
        if not is_utf_8(text):
            continue
        vector = vector_read(stored) if vectors else None
        if vector is not None and not (
            vector.shape == (target.dimensions,) and bool(np.isfinite(vector).all())
        ):
            continue
        yield SampledRow(
            tenant=tenant,
            key=tuple(key),
            identity=identity or "",
            text=text,
            vector=vector,
            vector_hash=stored_hash or "",
        )


def compile_draw(
    target: Target,
    checks: Sequence[AppliedCheck],
    *,
    tenants: Sequence[str | None],
    rows: int,
    seed: int,
    vectors: bool,
) -> sql.Composed:
    """The statement of `draw`: tenant, identity, the key's columns as text, text, vector, its md5.

    An array is returned as it is, any other type as a `vector` in binary form. The sort moves
    texts and vectors as they are stored, and only those of the candidates are read.
    """
    keys = [sql.Identifier(f"key_{i}") for i in _positions(target)]
    embedding = sql.Identifier("embedding")
    schema = target.server.vector_schema
    shown = vector_bytes(embedding, schema) if target.embedding_type.from_extension else embedding
    stored_hash = sql.SQL("md5({})").format(target.embedding_type.bytes(embedding, schema))
    nothing = sql.SQL("NULL")
    return sql.SQL(
        """
SELECT {columns}
FROM (
    SELECT candidate.*, row_number() OVER (PARTITION BY tenant ORDER BY turn) AS nth
    FROM (
        SELECT r.*, row_number() OVER (PARTITION BY tenant ORDER BY {chance}) AS turn
        FROM {rows} AS r
        WHERE embedding IS NOT NULL AND {tenants}
    ) AS candidate
    WHERE turn <= {candidates} AND embeddable AND {healthy}
) AS chosen
WHERE nth <= {most}
ORDER BY tenant, nth
"""
    ).format(
        columns=sql.SQL(", ").join(
            [
                sql.SQL("tenant"),
                sql.SQL("identity"),
                *(sql.SQL("{}::text").format(key) for key in keys),
                as_sent(sql.SQL("text"), target.server),
                shown if vectors else nothing,
                stored_hash if vectors else nothing,
            ]
        ),
        candidates=sql.Literal(CANDIDATES * rows),
        chance=chance(keys or [sql.Identifier("text")], seed),
        rows=rows_of(target),
        healthy=_healthy(checks),
        tenants=one_of(tenants),
        most=sql.Literal(rows),
    )


def chance(columns: Sequence[sql.Composable], seed: int) -> sql.Composable:
    """SQL that puts rows in a random order: the same one for the same keys and seed."""
    words = sql.SQL(", ").join(sql.SQL("{}::text").format(column) for column in columns)
    return sql.SQL(
        "pg_catalog.hashtextextended(pg_catalog.concat_ws('|', {}) COLLATE \"C\", {})"
    ).format(words, sql.Literal(seed))


def one_of(tenants: Sequence[str | None]) -> sql.Composable:
    """The condition that a row is of one of the tenants; None stands for the NULL tenant."""
    return sql.SQL("({} OR tenant IS NULL AND {})").format(
        among([tenant for tenant in tenants if tenant is not None]),
        sql.Literal(None in tenants),
    )


def _positions(target: Target) -> range:
    return range(1, len(target.key) + 1)


def _healthy(checks: Sequence[AppliedCheck]) -> sql.Composable:
    # A rule about sets of rows would read every vector of the table for a sample of a few rows.
    # A row that fails it may be sampled, and then is rightly found to drift.
    fails = [c.predicate for c in checks if c.remedy == "re-embed" and c.members is None]
    if not fails:
        return sql.SQL("true")
    return sql.SQL("({}) IS NOT TRUE").format(
        sql.SQL(" OR ").join(sql.SQL("({})").format(predicate) for predicate in fails)
    )
