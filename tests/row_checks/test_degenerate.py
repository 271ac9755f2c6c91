"""A vector is healthy where the server can compute with it: found and refused by one notion."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from checks.database.vectors.health import healthy, least_norm
from checks.row_checks.applied import applied_checks
from checks.row_checks.row_relation import rows_of
from demo.postgres import create_database, drop_database
from remediation.provider.errors import UntrustworthyResponse
from remediation.provider.protocol import require_as_asked
from tests.builders.tables import looking, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

DIMENSIONS = 24
TYPES = (
    f"vector({DIMENSIONS})",
    "vector",
    f"halfvec({DIMENSIONS})",
    "sparsevec",
    "real[]",
    "double precision[]",
)
UNIT = 1.0 / math.sqrt(DIMENSIONS)


def elements() -> st.SearchStrategy[list[float]]:
    """Vectors of every size, of one odd element, of mixed sizes, and read in the wrong order."""
    sizes = st.integers(-45, 38).map(lambda power: 10.0**power)
    signs = st.lists(st.sampled_from((-1.0, 1.0)), min_size=DIMENSIONS, max_size=DIMENSIONS)
    parts = st.lists(st.floats(0.25, 1.0, width=32), min_size=DIMENSIONS, max_size=DIMENSIONS)
    whole = st.builds(
        lambda size, part, sign: [size * p * s for p, s in zip(part, sign, strict=True)],
        sizes | st.just(UNIT),
        parts,
        signs,
    )
    odd = st.builds(
        lambda vector, at, size: [*vector[:at], size, *vector[at + 1 :]],
        whole,
        st.integers(0, DIMENSIONS - 1),
        sizes | st.just(0.0),
    )
    mixed = st.lists(sizes, min_size=DIMENSIONS, max_size=DIMENSIONS)
    swapped = whole.map(lambda vector: np.array(vector, np.float32).byteswap().tolist()).filter(
        lambda vector: all(map(math.isfinite, vector))
    )
    return whole | odd | mixed | swapped


@pytest.fixture(scope="module", params=TYPES)
def place(request: pytest.FixtureRequest, server_url: str) -> Iterator[tuple[str, str]]:
    name = f"health_{TYPES.index(request.param)}"
    url = create_database(server_url, name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute(
            f"CREATE TABLE docs (id int PRIMARY KEY, body text, embedding {request.param})"
        )
    yield url, request.param
    drop_database(server_url, name)


def put(
    connection: psycopg.Connection[Any], kind: str, made: Sequence[NDArray[np.float32]]
) -> list[int]:
    """Store what the type takes, by position; the positions that are stored."""
    connection.execute("TRUNCATE docs")
    cast = f"real[]::vector({DIMENSIONS})::{kind}" if kind.startswith(("half", "sparse")) else kind
    stored = []
    for position, vector in enumerate(made):
        try:
            connection.execute(
                f"INSERT INTO docs VALUES (%s, 'text ' || %s, %s::{cast})",
                (position, position, vector.astype(float).tolist()),
            )
        except psycopg.errors.NumericValueOutOfRange:
            continue  # a type refuses what it cannot hold
        stored.append(position)
    return stored


def computed(connection: psycopg.Connection[Any], kind: str) -> dict[int, tuple[float, ...]]:
    """What the server makes of each vector with itself, by every metric."""
    name = "vector" if kind.endswith("[]") else kind
    value, zero = f"embedding::{name}", f"'{{}}/{DIMENSIONS}'::sparsevec::vector::{name}"
    query = f"SELECT id, {value} <=> {value}, {value} <#> {value}, {value} <-> {zero} FROM docs"
    return {row[0]: row[1:] for row in connection.execute(query)}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(made=st.lists(elements(), min_size=4, max_size=12))
@example(made=[[size] * DIMENSIONS for size in (1e30, 1e-30, 1e-40, 1e-7, 1e-20, 3e4, UNIT, 0.0)])
@example(made=[[size] * DIMENSIONS for size in (3.7e18, 3.8e18, 1e20, 2.3e-20, 2.2e-20, 1e-23)])
@example(made=[[1e30, *[UNIT] * (DIMENSIONS - 1)], [UNIT] * 21 + [0.0] * 3])
def test_the_check_the_repair_and_the_server_agree_on_each_vector(
    place: tuple[str, str], made: list[list[float]]
) -> None:
    url, kind = place
    name = kind.partition("(")[0]
    vectors = np.array(made, dtype=np.float64).astype(np.float32)
    sound = healthy(vectors, name)
    with looking(url, table(key=["id"], dimensions=DIMENSIONS)) as looker:
        with psycopg.connect(url, autocommit=True) as connection:
            stored = put(connection, kind, list(vectors))
            by_server = computed(connection, kind)
        (target,) = looker.targets()
        [check] = [one for one in applied_checks(target) if one.name == "degenerate"]
        found: dict[int, bool] = dict(
            looker.connection.execute(
                psycopg.sql.SQL("SELECT key_1, ({}) IS TRUE FROM {} AS r").format(
                    check.predicate, rows_of(target)
                )
            ).fetchall()
        )
    assert set(np.flatnonzero(sound)) <= set(stored)
    for position in stored:
        vector = vectors[position]
        held = vector.astype(np.float16) if name == "halfvec" else vector
        padded = not held[-(DIMENSIONS // 8) :].any()
        assert found[position] is bool(not sound[position] or padded)
        cosine, product, distance = by_server[position]
        if sound[position]:
            assert abs(cosine) < 1e-3
            assert 0.0 < -product < math.inf
            assert 0.0 < distance < math.inf
        elif not kind.endswith("[]"):  # of an array, one element is as large as all may be
            norm = float(np.linalg.norm(held.astype(np.float64)))
            assert not math.isfinite(cosine) or norm < least_norm(name) or norm > 1.8e19
        try:
            require_as_asked(
                vectors[position : position + 1],
                texts=["text"],
                dimensions=DIMENSIONS,
                stored_as=name,
            )
        except UntrustworthyResponse:
            assert not sound[position]
        else:
            assert sound[position]
