"""Samples the largest segments of a table for `mixed_models`. Reads few rows; asks no provider."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import psycopg
from psycopg import sql

from checks.database.undecodable import as_read, as_sent
from checks.database.vector_types import vector_bytes, vector_read
from checks.row_checks.row_relation import rows_of
from checks.scanning.mixed_models import mixed_models
from checks.scanning.sample import Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from checks.database.connection import Connection
    from checks.expectations.measurements import Measurement
    from checks.scanning.mixed_models import MixedModels
    from checks.targets.target import Target

SEGMENTS = 3
"""The largest segments of a table, which are looked at."""
SEGMENT_ROWS = 100
"""A smaller one is not looked at."""
SAMPLE = 200
"""Rows of each, about."""
CHARACTERS = 2_000
"""Of a text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedSegment:
    """A tenant whose vectors look like those of two models."""

    tenant: str | None
    found: MixedModels


def mixed_segments(
    connection: Connection, target: Target, measurements: Sequence[Measurement]
) -> tuple[MixedSegment, ...]:
    """The segments that look like two models'; () where a column tells the models, or of errors.

    One pass over the table, which reads the vectors of the sampled rows alone, in the caller's
    read-only transaction, whatever the database refuses.
    """
    if target.provenance_column("model_column") is not None or not target.text_is_known:
        return ()
    largest = sorted(measurements, key=lambda one: -one.rows)[:SEGMENTS]
    looked_at = [one for one in largest if one.rows >= SEGMENT_ROWS]
    if not looked_at:
        return ()
    try:
        with connection.transaction():
            rows = connection.execute(_draw(target, looked_at)).fetchall()
    except psycopg.Error:
        if connection.closed:
            raise
        return ()  # a hint is worth no error
    drawn: dict[str | None, list[tuple[str, NDArray[np.float32]]]] = {}
    for tenant, text, stored in rows:
        vector = vector_read(stored)
        if vector.shape == (target.dimensions,):
            drawn.setdefault(tenant, []).append((as_read(text), vector))
    seen = {
        tenant: mixed_models([text for text, _ in some], np.stack([vector for _, vector in some]))
        for tenant, some in drawn.items()
    }
    return tuple(
        MixedSegment(tenant=tenant, found=found)
        for tenant, found in seen.items()
        if found is not None
    )


def _draw(target: Target, segments: Sequence[Measurement]) -> sql.Composed:
    """Tenant, text and vector of some rows of each segment, by a hash of where they stand."""
    embedding, schema = sql.SQL("r.embedding"), target.server.vector_schema
    drawn = [
        sql.SQL("{} AND {}").format(
            sql.SQL("r.tenant IS NULL")
            if one.segment.tenant is None
            else sql.SQL("r.tenant = {}").format(sql.Literal(one.segment.tenant)),
            Sample(percent=min(Decimal(100), Decimal(100 * SAMPLE) / one.rows), seed=0).takes(
                target
            ),
        )
        for one in segments
    ]
    return sql.SQL(
        """
SELECT r.tenant, {text}, {vector}
FROM {rows} AS r
WHERE r.embedding IS NOT NULL AND r.text IS NOT NULL AND ({drawn})
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
        drawn=sql.SQL(" OR ").join(drawn),
        most=sql.Literal(2 * SAMPLE * len(segments)),
    )
