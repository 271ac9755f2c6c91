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

DISTANCES_PER_DOUBLING = 900
"""Distances that take as long as an insert, for each doubling of the rows in the index, with m = 16
and ef_construction = 64, pgvector's defaults (measured with bench.repair's writers)."""
VECTORS = 10
TIMES = 60
"""So often each of them is held against each: 6,000 distances, 6 to 30 ms of 1,536 dimensions."""
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
FROM made AS a, made AS b, pg_catalog.generate_series(1, %(times)s)
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
    )

    def took(times: int) -> float:
        begun = perf_counter()
        connection.execute(statement, {"times": times})
        return perf_counter() - begun

    with read_only(connection, place, statement_timeout=timeout):
        # Without the making of the vectors, which takes as long; of each what no hiccup disturbed.
        made = min(took(1) for _ in range(TRIES))
        seconds = max(0.0, min(took(1 + TIMES) for _ in range(TRIES)) - made)
    return DISTANCES_PER_DOUBLING * log2(max(rows, 2)) * seconds / (VECTORS**2 * TIMES)
