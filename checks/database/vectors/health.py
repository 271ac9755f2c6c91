"""Says which vectors pgvector can compute with: neither too long nor too short for its arithmetic.

One notion for SQL and numpy: what a check finds, no repair writes. Runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from psycopg import sql

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_NORM = 1.1e-19
"""The square of a shorter one is no normal float4 (1.18e-38 at least), in which pgvector adds up
squares and products: it has few digits or none, and `embedding <=> embedding` ends in NaN."""
MOST_NORM = 1.84e19
"""The square of a longer one is infinite in float4 (3.4e38 at most), by the rounding of a sum of
16,000 squares less: a cosine is NaN, a distance infinite."""
LEAST_HALF_NORM = 2.0**-14
"""In a shorter `halfvec` no element is a normal float2, of which 10 bits follow the first."""


def least_norm(type_name: str) -> float:
    """The least norm of a healthy vector of this type."""
    return LEAST_HALF_NORM if type_name == "halfvec" else LEAST_NORM


def out_of_range(norm: sql.Composable, type_name: str) -> sql.Composable:
    """SQL that is true of the norm of a vector that pgvector cannot compute with."""
    return sql.SQL("{} NOT BETWEEN {}::float8 AND {}::float8").format(
        norm, sql.Literal(least_norm(type_name)), sql.Literal(MOST_NORM)
    )


def elements_out_of_range(
    array: sql.Composable, element: sql.Composable, dimensions: int
) -> sql.Composable:
    """SQL that is true of an array with an element that is NaN or too large, or with none that is
    large enough; of a NULL element nothing is known.

    An element may be as large as all of `dimensions` together may be without a norm beyond
    `MOST_NORM`: the norm itself is not known to SQL that has no function for it.
    """
    most, least = MOST_NORM / max(1, dimensions) ** 0.5, LEAST_NORM
    bound = [
        sql.SQL("({})::{}").format(sql.Literal(number), element)
        for number in (most, -most, least, -least)
    ]
    return sql.SQL(
        "({0} < ANY ({4}) OR {1} > ANY ({4}) OR ({2} > ALL ({4}) AND {3} < ALL ({4})))"
    ).format(*bound, array)


def healthy(vectors: NDArray[np.float32], type_name: str) -> NDArray[np.bool_]:
    """Which vectors, as a column of this type would hold them, pgvector can compute with.

    `vectors` has the shape (vectors, dimensions), the result (vectors,).
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        held = vectors.astype(np.float16) if type_name == "halfvec" else vectors
        if type_name.endswith("[]"):
            largest = np.abs(held).max(axis=1, initial=0.0)
            most = MOST_NORM / max(1, held.shape[1]) ** 0.5
            return np.asarray((largest >= LEAST_NORM) & (largest <= most))
        norms = np.linalg.norm(held.astype(np.float64), axis=1)
        return np.asarray((norms >= least_norm(type_name)) & (norms <= MOST_NORM))
