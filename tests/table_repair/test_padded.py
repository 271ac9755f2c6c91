"""A model's vectors in a column of more dimensions, padded with zeros by design."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.builders.tables import rows, run
from tests.drivers.discoveries import discovered, tables
from tests.drivers.repairs import environment, examined, repaired, settings
from tests.servers.provider_server import ProviderServer, vector_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MODEL, STORED = 24, 32
KEYS = environment("acme")


def stored(text: str, zeros: int = STORED - MODEL) -> list[float]:
    return [*vector_of(text, MODEL).tolist(), *[0.0] * zeros]


def literal(vector: Sequence[float], column_type: str) -> str:
    if column_type.startswith("sparsevec"):
        elements = (f"{i}:{x}" for i, x in enumerate(vector, start=1) if x)
        return f"{{{','.join(elements)}}}/{len(vector)}"
    listed = ",".join(map(str, vector))
    return f"{{{listed}}}" if column_type.endswith("[]") else f"[{listed}]"


def create(database: str, column_type: str = f"vector({STORED})", healthy: int = 6) -> None:
    """Healthy rows; 90: no vector, 91: a tail behind the model's, 92: of a smaller model yet."""
    run(
        database,
        "CREATE TABLE docs (id int PRIMARY KEY, tenant text DEFAULT 'acme', body text,"
        f" hidden boolean DEFAULT false, embedding {column_type})",
    )
    vectors = {number: stored(f"text {number}") for number in range(healthy)}
    vectors[91] = [*stored("text 91")[:-1], 0.5]
    vectors[92] = [*vector_of("text 92", MODEL - 4).tolist(), *[0.0] * (STORED - MODEL + 4)]
    for number, vector in vectors.items():
        value = literal(vector, column_type)
        run(
            database, f"INSERT INTO docs VALUES ({number}, 'acme', 'text {number}', 'f', '{value}')"
        )
    run(database, "INSERT INTO docs VALUES (90, 'acme', 'text 90')")


@pytest.mark.parametrize(
    ("column_type", "pad"),
    [
        ("vector(32)", True),
        ("halfvec(32)", True),
        ("sparsevec(32)", True),
        ("vector", STORED),
        ("sparsevec", STORED),
        ("real[]", STORED),
        ("double precision[]", STORED),
    ],
)
def test_a_repair_pads_what_the_checks_call_padded_otherwise(
    database: str, tmp_path: Path, column_type: str, pad: bool | int
) -> None:
    create(database, column_type)
    with ProviderServer(dimensions=MODEL) as server:
        chosen = settings(server, provider={"dimensions": MODEL}, table={"pad": pad})
        failing = examined(database, chosen)
        assert failing.failing("completeness") == 1
        assert failing.failing("degenerate") == 2
        assert failing.failing("dimensionality") == 0
        assert failing.target.problems == ()
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 3, "fixed": 3}
        assert min(done.docs.probes[0].cosines) > 0.9999
        assert {request.body.get("dimensions") for request in server.requests} == {None}
    cast = "real[]" if column_type.endswith("[]") else "vector::real[]"
    for number, value in rows(database, f"SELECT id, embedding::{cast} FROM docs"):
        np.testing.assert_allclose(value, stored(f"text {number}"), atol=1e-3)
    assert examined(database, chosen).failing("degenerate") == 0


def test_another_models_vectors_are_seen_through_the_zeros(database: str, tmp_path: Path) -> None:
    create(database)
    with ProviderServer(dimensions=MODEL, model="another") as server:
        chosen = settings(
            server, provider={"dimensions": MODEL, "model": "another"}, table={"pad": True}
        )
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert "the probe refused" in (done.docs.stopped or "")


@pytest.mark.parametrize(
    ("column_type", "pad", "said"),
    [
        ("vector", True, "pad: the vectors of column 'embedding' of public.docs have any number"),
        ("real[]", MODEL, f"pad: the vectors of column 'embedding' of public.docs have {MODEL} "),
        ("vector(32)", 40, "pad: column 'embedding' of public.docs is vector(32), declared are 40"),
    ],
)
def test_a_dimension_to_pad_to_that_cannot_be_is_a_problem(
    database: str, column_type: str, pad: bool | int, said: str
) -> None:
    create(database, column_type)
    chosen = settings("http://127.0.0.1:9/v1", provider={"dimensions": MODEL}, table={"pad": pad})
    (problem,) = examined(database, chosen).target.problems
    assert problem.text.startswith(said)


def test_an_array_is_padded_behind_its_last_element_wherever_its_subscripts_begin(
    database: str,
) -> None:
    create(database, "real[]")
    shifted = literal(stored("text 0"), "real[]")
    run(database, f"UPDATE docs SET embedding = '[5:36]={shifted}' WHERE id = 0")
    chosen = settings("http://127.0.0.1:9/v1", provider={"dimensions": MODEL}, table={"pad": 32})
    assert examined(database, chosen).failing("degenerate") == 2


def test_a_shorter_model_than_the_column_names_the_setting(database: str) -> None:
    create(database)
    chosen = settings("http://127.0.0.1:9/v1", provider={"dimensions": MODEL})
    (problem,) = examined(database, chosen).target.problems
    assert "`pad = true`" in problem.text


@pytest.mark.parametrize(
    ("column_type", "pad"), [("vector(32)", True), ("vector", STORED), ("real[]", STORED)]
)
def test_discovery_proposes_it_where_nearly_all_vectors_end_alike(
    database: str, column_type: str, pad: bool | int
) -> None:
    create(database, column_type, healthy=30)
    (entry,) = tables(discovered(database)).values()
    assert (entry["dimensions"], entry["pad"]) == (MODEL, pad)
    # A few with zeros behind them are the failure that `degenerate` is there for.
    for number in range(8, 30):
        value = literal(vector_of(f"text {number}", STORED).tolist(), column_type)
        run(database, f"UPDATE docs SET embedding = '{value}' WHERE id = {number}")
    (entry,) = tables(discovered(database)).values()
    assert entry["dimensions"] == STORED
    assert "pad" not in entry
