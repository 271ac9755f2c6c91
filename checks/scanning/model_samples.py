"""Samples segments of a table for `mixed_models`: the largest, and the small ones in one pool.

Reads few rows; asks no provider.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import psycopg
from psycopg import sql

from checks.database.undecodable import as_read, as_sent
from checks.database.vectors.types import vector_bytes, vector_read
from checks.row_checks.row_relation import rows_of
from checks.scanning.mixed_models import mixed_models
from checks.scanning.sample import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from checks.database.connection import Connection
    from checks.expectations.measurements import Measurement
    from checks.scanning.mixed_models import MixedLengths, MixedModels
    from checks.targets.target import Target

SEGMENTS = 3
"""The largest segments of a table, which are looked at."""
SEGMENT_ROWS = 100
"""A smaller one is not looked at by itself: all of these are of the table's model."""
POOL_ROWS = 2_000
"""Of the largest of the small ones, which are pooled."""
SAMPLE = 200
"""Rows of each, about."""
CHARACTERS = 2_000
"""Of a text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedSegment:
    """A tenant, or several small ones, whose vectors look like those of two models."""

    tenants: tuple[str | None, ...]
    found: MixedModels | MixedLengths


def mixed_segments(
    connection: Connection, target: Target, measurements: Sequence[Measurement]
) -> tuple[MixedSegment, ...]:
    """The segments that look like two models'; () where a column tells the models, or of errors.

    One pass over the table, which reads the vectors of the sampled rows alone, in the caller's
    read-only transaction, whatever the database refuses.
    """
    if target.provenance_column("model_column") is not None or not target.text_is_known:
        return ()
    largest = sorted(measurements, key=lambda one: -one.rows)
    looked_at: list[tuple[Measurement, ...]]
    looked_at = [(one,) for one in largest[:SEGMENTS] if one.rows >= SEGMENT_ROWS]
    pool = tuple(_pool(target, largest))
    if sum(one.rows for one in pool) >= SEGMENT_ROWS:
        looked_at.append(pool)
    if not looked_at:
        return ()
    try:
        with connection.transaction():
            rows = connection.execute(_draw(target, looked_at)).fetchall()
    except psycopg.Error:
        if connection.closed:
            raise
        return ()  # a hint is worth no error
    drawn: list[list[tuple[str, NDArray[np.float32]]]] = [[] for _ in looked_at]
    for number, text, stored in rows:
        vector = vector_read(stored)
        if vector.shape == (target.dimensions,):
            drawn[number].append((as_read(text), vector))
    seen = []
    for segments, some in zip(looked_at, drawn, strict=True):
        texts, vectors = [text for text, _ in some], [vector for _, vector in some]
        found = mixed_models(texts, np.stack(vectors)) if some else None
        if found is not None:
            tenants = tuple(one.segment.tenant for one in segments)
            seen.append(MixedSegment(tenants=tenants, found=found))
    return tuple(seen)


def _pool(target: Target, largest: Sequence[Measurement]) -> Iterator[Measurement]:
    """Small segments of the table's own model, the largest first."""
    rows = 0
    for one in largest:
        if one.rows < SEGMENT_ROWS and target.model_of(one.segment.tenant) == target.model:
            yield one
            rows += one.rows
            if rows >= POOL_ROWS:
                return


def _draw(target: Target, groups: Sequence[Sequence[Measurement]]) -> sql.Composed:
    """Number, text and vector of some rows of each group, by a hash of where they stand."""
    embedding, schema = sql.SQL("r.embedding"), target.server.vector_schema
    drawn = [
        sql.SQL("WHEN {} AND {} THEN {}").format(
            Sample(
                percent=min(Decimal(100), Decimal(100 * SAMPLE) / sum(one.rows for one in group)),
                seed=0,
            ).takes(target),
            _of_tenants([one.segment.tenant for one in group]),
            sql.Literal(number),
        )
        for number, group in enumerate(groups)
    ]
    return sql.SQL(
        """
SELECT drawn, {text}, {vector}
FROM {rows} AS r CROSS JOIN LATERAL (SELECT CASE {drawn} END) AS of_group (drawn)
WHERE drawn IS NOT NULL AND r.embedding IS NOT NULL AND r.text IS NOT NULL
LIMIT {most}
"""
    ).format(
        text=as_sent(
            sql.SQL("pg_catalog.left(r.text, {})").format(sql.Literal(CHARACTERS)), target.server
        ),
        vector=vector_bytes(embedding, schema)
        if target.embedding_type.from_extension
        else embedding,
        rows=rows_of(target),
        drawn=sql.SQL(" ").join(drawn),
        most=sql.Literal(2 * SAMPLE * len(groups)),
    )


def _of_tenants(tenants: Sequence[str | None]) -> sql.Composable:
    named = sql.SQL("r.tenant = ANY({})").format(
        sql.Literal([tenant for tenant in tenants if tenant is not None])
    )
    return sql.SQL("(r.tenant IS NULL OR {})").format(named) if None in tenants else named
