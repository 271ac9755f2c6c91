"""Samples the largest segments of a table for `mixed_models`. Reads few rows; asks no provider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import psycopg
from psycopg import sql

from checks.database.undecodable import as_read, as_sent
from checks.database.vector_types import vector_bytes, vector_read
from checks.row_checks.row_relation import rows_of
from checks.scanning.mixed_models import mixed_models

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.connection import Connection
    from checks.expectations.measurements import Measurement
    from checks.scanning.mixed_models import MixedModels
    from checks.targets.target import Target

SEGMENTS = 3
"""The largest segments of a table, which are looked at."""
SEGMENT_ROWS = 100
"""A smaller one is not looked at."""
SAMPLE = 200
"""Rows of each."""
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

    Runs in the caller's read-only transaction, whatever the database refuses.
    """
    if target.provenance_column("model_column") is not None or not target.text_is_known:
        return ()
    largest = sorted(measurements, key=lambda one: -one.rows)[:SEGMENTS]
    found = []
    for one in largest:
        if one.rows < SEGMENT_ROWS:
            continue
        seen = _look(connection, target, one.segment.tenant)
        if seen is not None:
            found.append(MixedSegment(tenant=one.segment.tenant, found=seen))
    return tuple(found)


def _look(connection: Connection, target: Target, tenant: str | None) -> MixedModels | None:
    try:
        with connection.transaction():
            rows = connection.execute(_draw(target, tenant)).fetchall()
    except psycopg.Error:
        if connection.closed:
            raise
        return None  # a hint is worth no error
    vectors = [(as_read(text), vector_read(stored)) for text, stored in rows]
    shape = (target.dimensions,)
    sound = [(text, vector) for text, vector in vectors if vector.shape == shape]
    if not sound:
        return None
    return mixed_models([text for text, _ in sound], np.stack([vector for _, vector in sound]))


def _draw(target: Target, tenant: str | None) -> sql.Composed:
    """Text and vector of some rows, by a hash of their keys; those of no others are read."""
    embedding, schema = sql.SQL("r.embedding"), target.server.vector_schema
    own = (
        sql.SQL("tenant IS NULL")
        if tenant is None
        else sql.SQL("tenant = {}").format(sql.Literal(tenant))
    )
    return sql.SQL(
        """
SELECT {text}, {vector}
FROM {rows} AS r
WHERE (r.identity IN (
    SELECT pg_catalog.unnest(pg_catalog.array_agg(identity)) FROM (
        SELECT identity FROM {rows} AS every_row
        WHERE embedding IS NOT NULL AND {own}
        ORDER BY pg_catalog.hashtextextended(identity COLLATE "C", 0) LIMIT {most}
    ) AS chosen
)) IS TRUE AND r.embedding IS NOT NULL
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
        own=own,
        most=sql.Literal(SAMPLE),
    )
