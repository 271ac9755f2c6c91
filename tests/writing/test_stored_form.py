"""What a vector is sent as and stored as: the bytes that Python computes are the server's own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import psycopg
import pytest
from psycopg.types import TypeInfo

from remediation.writing.stored_form import stored_forms, vector_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEND = {
    "vector": "vector_send",
    "halfvec": "halfvec_send",
    "sparsevec": "sparsevec_send",
    "real[]": "array_send",
    "double precision[]": "array_send",
}


def _vectors(within: float) -> list[NDArray[np.float32]]:
    """Of all magnitudes up to `within`; with ties, subnormal numbers, zeros of both signs."""
    chance = np.random.default_rng(5)
    random = chance.standard_normal((20, 64), dtype=np.float32)
    bits = chance.integers(0, 2**32, size=(200, 64), dtype=np.uint32).view(np.float32)
    bits = np.where(np.isfinite(bits) & (np.abs(bits) < within), bits, np.float32(0.5))
    halves = np.arange(0, 0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = ((halves[:-1].astype(np.float64) + halves[1:]) / 2).astype(np.float32)
    beside = np.concatenate([np.nextafter(ties, np.float32(1e9)), np.nextafter(ties, -ties)])
    edges = np.concatenate([halves, -halves, ties, -ties, beside])
    edges = np.resize(edges, (edges.size // 64 + 1, 64))
    few = np.zeros((3, 64), dtype=np.float32)
    few[0, 5], few[1, 63], few[2, 0] = -0.0, 1e-40, 2.5
    few[0, 6] = 1.0
    return list(np.concatenate([random, bits, edges, few]))


@pytest.mark.parametrize("kind", list(SEND))
def test_what_is_foreseen_is_what_the_server_stores(database: str, kind: str) -> None:
    vectors = _vectors(65_000 if kind == "halfvec" else 3e38)
    with psycopg.connect(database) as connection:
        cast = "v" if kind == "vector" else f"v::{kind}"
        if kind == "double precision[]":
            cast = "v::real[]::double precision[]"
        connection.execute("CREATE TEMPORARY TABLE sent (place int, v vector)")
        with connection.cursor().copy("COPY sent FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "bytea"])
            for place, vector in enumerate(stored_forms("vector", vectors)):
                copy.write_row((place, vector))
        stored = connection.execute(
            f"SELECT md5({SEND[kind]}({cast})) FROM sent ORDER BY place"
        ).fetchall()
    ours = [hashlib.md5(form).hexdigest() for form in stored_forms(kind, vectors)]
    assert [md5 for (md5,) in stored] == ours


def test_an_array_of_vectors_is_read_by_the_server_as_it_was_meant(database: str) -> None:
    vectors = _vectors(3e38)[:50]
    with psycopg.connect(database) as connection:
        info = TypeInfo.fetch(connection, "vector")
        assert info is not None
        connection.execute("CREATE TEMPORARY TABLE sent (vectors vector[])")
        with connection.cursor().copy("COPY sent FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["bytea"])
            copy.write_row((vector_array(stored_forms("vector", vectors), info.oid),))
        came = connection.execute(
            "SELECT vector_send(v) FROM sent, unnest(vectors) WITH ORDINALITY AS one (v, place)"
            " ORDER BY place"
        ).fetchall()
    assert [sent for (sent,) in came] == stored_forms("vector", vectors)
