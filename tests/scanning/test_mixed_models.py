"""Vectors of two models in one column: seen without a provider, and never in topics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from checks.scanning.mixed_models import mixed_models
from tests.nearby_texts import DIMENSIONS, near_vector
from tests.repairs import docs, examined, settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARCELS = (
    "parcel neighbour invoice refund delivery address password account warehouse driver label"
    " morning evening broken missing wrong late early ticket customer order return voucher phone"
    " letter street number copy signature window"
)
WORDS = PARCELS.split()


def texts(count: int, *, seed: int = 1) -> list[str]:
    chosen = np.random.default_rng(seed)
    return [" ".join(chosen.choice(WORDS, 12)) + f" {n}" for n in range(count)]


def other_vector(text: str) -> NDArray[np.float32]:
    """What another model gives."""
    turned = np.random.default_rng(5)
    vector = near_vector(text)[turned.permutation(DIMENSIONS)]
    turned_vector: NDArray[np.float32] = vector * turned.choice([-1.0, 1.0], DIMENSIONS)
    return turned_vector


@pytest.mark.parametrize(("old", "found"), [(0, False), (60, True), (36, True), (120, False)])
def test_a_half_done_migration_is_a_warning_and_a_whole_one_is_none(
    database: str, old: int, found: bool
) -> None:
    with docs(database, {}, f"vector({DIMENSIONS})") as table:
        for number, text in enumerate(texts(120)):
            vector = other_vector(text) if number < old else near_vector(text)
            literal = "[" + ",".join(map(str, vector.tolist())) + "]"
            table.execute(
                "INSERT INTO docs (id, tenant, body, embedding) VALUES (%s, 'acme', %s, %s)",
                (number, text, literal),
            )
        chosen = settings("http://127.0.0.1:9", provider={"dimensions": DIMENSIONS})
        findings = examined(database, chosen).findings
    assert [finding.severity for finding in findings] == ["warning"] * found
    for finding in findings:
        assert finding.tenant == "acme"
        assert f"of 120 sampled rows {old} (" in finding.says


@pytest.mark.parametrize("topics", [2, 3, 7])
@pytest.mark.parametrize("told_by", ["names", "words", "nothing"])
def test_topics_at_right_angles_are_not_taken_for_models(topics: int, told_by: str) -> None:
    """As far from real models as may be: the vectors of two topics have nothing in common."""
    chosen = np.random.default_rng(topics)
    for _ in range(20):
        centres = chosen.standard_normal((topics, 128))
        of = chosen.integers(topics, size=150)
        vectors = centres[of] + chosen.standard_normal((150, 128)) * chosen.uniform(0.1, 1.0)
        told = {
            "names": [f"a note about topic {topic}, number {n}" for n, topic in enumerate(of)],
            "words": [
                " ".join(
                    f"{topic}-{WORDS[w]}".replace("-", "") for w in chosen.integers(30, size=9)
                )
                + " of the house and the garden"
                for topic in of
            ],
            "nothing": [f"a note, number {n}" for n in range(150)],
        }
        assert mixed_models(told[told_by], vectors.astype(np.float32)) is None
