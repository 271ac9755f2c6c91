"""Vectors of two models in one column: seen without a provider, and never in topics."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import pytest

from checks.scanning.mixed_models import MixedModels, mixed_models
from tests.drivers.repairs import docs, examined, settings
from tests.servers.nearby_texts import DIMENSIONS, near_vector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


@pytest.mark.parametrize("old", [0, 40])
def test_small_tenants_are_looked_at_together(database: str, old: int) -> None:
    with docs(database, {}, f"vector({DIMENSIONS})") as table:
        for number, text in enumerate(texts(120)):
            vector = other_vector(text) if number < old else near_vector(text)
            literal = "[" + ",".join(map(str, vector.tolist())) + "]"
            table.execute(
                "INSERT INTO docs (id, tenant, body, embedding) VALUES (%s, %s, %s, %s)",
                (number, f"t{number % 6}" if number % 6 else None, text, literal),
            )
        chosen = settings("http://127.0.0.1:9", provider={"dimensions": DIMENSIONS})
        findings = examined(database, chosen).findings
    assert [(finding.severity, finding.tenant) for finding in findings] == [
        ("warning", None)
    ] * bool(old)
    for finding in findings:
        assert "6 tenants of few rows, looked at together" in finding.says
        assert "of 120 sampled rows 40 (33%, give or take 8%)" in finding.says


def test_tenants_of_other_words_and_topics_are_no_second_model() -> None:
    """Of each tenant a few rows: its own topic, and words that others have too, or none of them."""
    chosen = np.random.default_rng(3)
    for _ in range(6):
        tenants, share = int(chosen.integers(2, 30)), chosen.uniform(0.0, 0.8)
        common = chosen.standard_normal(128)
        of = chosen.integers(tenants, size=200)
        topics = chosen.standard_normal((tenants, 128))
        said = [
            [
                f"{'all' if chosen.uniform() < share else f'of{tenant}'}{word}"
                for word in chosen.integers(40, size=14)
            ]
            for tenant in of
        ]
        words: dict[str, NDArray[np.float64]] = {}
        vectors = []
        for tenant, text in zip(of, said, strict=True):
            known = [words.setdefault(word, chosen.standard_normal(128)) for word in text]
            vectors.append(common + 1.5 * topics[tenant] + np.mean(known, axis=0) * 2.0)
        stacked = np.array(vectors, dtype=np.float32)
        assert mixed_models([" ".join(text) for text in said], stacked) is None


@pytest.mark.parametrize(
    ("lengths", "found"),
    [
        (lambda some: np.where(some < 0.2, 1.0, 8.0 + some), (16, 80)),
        (lambda some: np.where(some < 0.2, 0.6, 1.0), (64, 80)),
        (lambda some: 0.9 + 0.2 * some, None),  # a model that does not normalise
        (lambda some: 1.0 + 0.001 * some, None),  # one that does, stored in half precision
        (lambda some: np.where(some < 0.02, 7.0, 1.0), None),  # a few
        (lambda some: np.where(some < 0.2, 0.0, 1.0), None),  # the failures of other checks
        (lambda some: np.where(some < 0.2, np.inf, 1.0), None),
    ],
)
def test_rows_of_length_1_beside_rows_of_other_lengths_look_like_two_models(
    lengths: Callable[[NDArray[np.float64]], NDArray[np.float64]], found: tuple[int, int] | None
) -> None:
    chosen = np.random.default_rng(2)
    vectors = chosen.standard_normal((80, 64))
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    with np.errstate(invalid="ignore"):
        vectors *= lengths(chosen.uniform(size=80))[:, None]
    seen = mixed_models([f"note {n}" for n in range(80)], vectors.astype(np.float32))
    told = None if seen is None else (seen.normalised, seen.rows)  # type: ignore[union-attr]
    assert told == found


@pytest.mark.parametrize("topics", [2, 3, 7])
@pytest.mark.parametrize("told_by", ["names", "words", "nothing"])
def test_topics_at_right_angles_are_not_taken_for_models(topics: int, told_by: str) -> None:
    """As far from real models as may be: the vectors of two topics have nothing in common."""
    chosen = np.random.default_rng(topics)
    for _ in range(6):
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


def prose(count: int, chosen: np.random.Generator) -> list[list[str]]:
    """Texts as people write them: of a dozen subjects, and two seldom have many words in common."""
    ranks = 1.0 / np.arange(1, 3_001)
    return [
        [
            f"w{subject * 200 + chosen.integers(60) if chosen.uniform() < 0.5 else word}"
            for word in chosen.choice(3_000, chosen.integers(15, 80), p=ranks / ranks.sum())
        ]
        for subject in chosen.integers(2, 14, count)
    ]


@pytest.mark.parametrize("parts", ["two models", "one model", "two topics", "two languages"])
def test_two_models_show_in_prose_and_two_topics_or_languages_of_one_are_none(parts: str) -> None:
    """The texts of a topic have some words of its own, those of a language have none of another."""
    for seed in range(6):
        chosen = np.random.default_rng(seed)
        later = chosen.uniform(size=200) < chosen.choice([0.3, 0.5])
        said = prose(200, chosen)
        own = {"two topics": 0.5, "two languages": 1.0}.get(parts, 0.0)
        said = [
            [f"of-the-later-{word}" if late and chosen.uniform() < own else word for word in text]
            for text, late in zip(said, later, strict=True)
        ]
        vectors = np.stack([_meaning(text, model="one") for text in said])
        if parts == "two models":
            others = np.stack([_meaning(text, model="another") for text in said])
            vectors = np.where(later[:, None], others, vectors)
        seen = mixed_models([" ".join(text) for text in said], vectors)
        assert (seen is not None) == (parts == "two models")
        if isinstance(seen, MixedModels):
            assert abs(seen.smaller - min(int(later.sum()), 200 - int(later.sum()))) <= 3
            assert seen.within > 0.2
            assert seen.across < 0.1


@pytest.mark.parametrize("share", [0.5, 0.3, 0.15])
def test_few_rows_of_a_second_model_show_among_short_texts_and_long(share: float) -> None:
    for seed in range(4):
        chosen = np.random.default_rng(seed)
        said = [*prose(150, chosen), *(text[:6] for text in prose(50, chosen))]
        later = chosen.uniform(size=200) < share
        one, other = (np.stack([_meaning(text, model=m) for text in said]) for m in ("one", "two"))
        seen = mixed_models([" ".join(t) for t in said], np.where(later[:, None], one, other))
        assert isinstance(seen, MixedModels)
        assert abs(seen.smaller - min(int(later.sum()), 200 - int(later.sum()))) <= 8


@pytest.mark.parametrize(
    "kind", ["languages", "repeated", "short and long", "short", "form letters", "other rows'"]
)
@pytest.mark.parametrize("count", [90, 200])
def test_texts_of_more_than_one_kind_are_not_taken_for_models(kind: str, count: int) -> None:
    for seed in range(3):
        chosen = np.random.default_rng(seed)
        some, others = prose(count // 2, chosen), prose(count // 2, chosen)
        said = {
            "languages": some + in_another_language(others),
            "repeated": some + some,
            "short and long": [text[:4] for text in some] + others,
            "short": [text[:4] for text in some + others],
            "form letters": [f"dear customer your order w{n}".split() for n in range(count // 2)]
            + others,
            "other rows'": some + others,
        }[kind]
        vectors = np.stack([_meaning(text, model="one") for text in said])
        if kind == "other rows'":
            vectors[: count // 3] = vectors[chosen.permutation(count // 3)]
        assert mixed_models([" ".join(text) for text in said], vectors) is None


def in_another_language(said: list[list[str]]) -> list[list[str]]:
    return [[f"autre-{word}" for word in text] for text in said]


def _meaning(text: Sequence[str], *, model: str) -> NDArray[np.float32]:
    """The sum of its words' vectors, rare ones counting more, and of what all of a model have."""
    words = [_vector_of(f"{model} {word}") for word in set(text)]
    vector: NDArray[np.float32] = np.sum(words, axis=0) + 2.0 * _vector_of(model)
    return vector


@cache
def _vector_of(name: str) -> NDArray[np.float32]:
    chosen = np.random.default_rng(crc32(name.encode()))
    rank = int(name.rpartition("w")[2]) if name[-1].isdigit() else 3_000
    weight = np.log(2.0 + rank) / np.log(3_002.0)
    vector: NDArray[np.float32] = (weight * chosen.standard_normal(128)).astype(np.float32)
    return vector
