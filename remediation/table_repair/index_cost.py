"""Reckons what a row costs that an HNSW index takes in, from the server's own speed.

Reads no row and writes nothing: the server computes distances between vectors made up for it.
"""

from __future__ import annotations

from math import log2
from time import perf_counter
from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.connection import read_only
from checks.database.vectors.types import EMBEDDING_TYPES

if TYPE_CHECKING:
    from datetime import timedelta

    from checks.database.connection import Connection, ConnectionTarget
    from checks.targets.target import Target

DISTANCES_PER_DOUBLING = 600
"""Distances that take as long as an insert, for each doubling of the rows in the index, with m = 16
and ef_construction = 64, pgvector's defaults (measured with bench.repair's writers)."""
VECTORS = 10
TIMES = 30
"""A statement computes 3,000 distances: 3 to 15 ms for 1,536 dimensions."""
TRIES = 3

DISTANCES = """
WITH made AS MATERIALIZED (
    SELECT {to_vector}((
        SELECT pg_catalog.array_agg(pg_catalog.sin(n * axis)::real)
        FROM pg_catalog.generate_series(1, {dimensions}) AS axis
    ), {dimensions}, false) AS vector
    FROM pg_catalog.generate_series(1, {vectors}) AS n
)
SELECT pg_catalog.count({distance}(a.vector, b.vector))
FROM made AS a, made AS b, pg_catalog.generate_series(1, {times})
"""


def seconds_per_indexed_row(
    connection: Connection,
    place: ConnectionTarget,
    target: Target,
    *,
    rows: int,
    timeout: timedelta,
) -> float:
    """Seconds of one writer for a row, in an index of so many rows. Raises psycopg's errors."""
    vector, schema = EMBEDDING_TYPES["vector"], target.server.vector_schema
    statement = sql.SQL(DISTANCES).format(
        to_vector=vector.function("array_to_vector", schema),
        distance=vector.function("cosine_distance", schema),
        dimensions=sql.Literal(target.dimensions),
        vectors=sql.Literal(VECTORS),
        times=sql.Literal(TIMES),
    )
    seconds = []
    with read_only(connection, place, statement_timeout=timeout):
        for _ in range(TRIES):
            begun = perf_counter()
            connection.execute(statement)
            seconds.append(perf_counter() - begun)
    # The median: others' work on the server is part of the cost, a hiccup is not.
    per_distance = sorted(seconds)[TRIES // 2] / (VECTORS**2 * TIMES)
    return DISTANCES_PER_DOUBLING * log2(max(rows, 2)) * per_distance
