"""Tells vectors of two models in one column by a sample, without a provider.

Within one model, rows whose words are more alike are nearer to each other; across two models words
tell nothing of nearness. Where a sample falls into two parts within which words tell it and across
which they do not, two models made it. Parts that are topics or languages have words of their own:
where texts of different parts have less in common than texts of one, nothing is told.

A model gives all vectors the length 1, or many lengths without a gap: where some have 1 and all
others are far from it, two models made them, or one whose vectors only some writers normalise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

FEWEST_ROWS = 80
"""Below this nothing is told."""
FEWEST_DIMENSIONS = 32
"""In fewer, unrelated vectors are not at right angles."""
FEWEST_OF_A_MODEL = 8
"""Rows of the smaller part."""
TOLD_WITHIN = 0.3
"""The least correlation of nearness with likeness of words within each part. (Texts of 20 to 400
words have about 0.5 in two real models, titles of two to six words 0.3.)"""
TOLD_ACROSS = 0.2
"""The most of it, as a share of that within, that there may be across the parts."""
WORDS_ACROSS = 0.7
"""The least mean likeness of words across the parts, as a share of that within either."""
BUCKETS = 4096
STARTS = 8
ROUNDS = 20
POWERS = 60
UNIT = 0.002
"""How far from 1 the length of a normalised vector may be, stored in half precision."""
GAP = 0.05
"""How far from 1 all others are at least."""
FEWEST_OF_A_LENGTH = 8
"""Rows of either kind."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedModels:
    """What speaks for two models: rows of the smaller part, and how far words tell nearness."""

    rows: int
    smaller: int
    within: float
    across: float

    @property
    def words(self) -> str:
        return (
            f"vectors look like those of two models: of {self.rows} sampled rows"
            f" {_share(self.smaller, self.rows)} are no nearer to the others where their words are"
            f" more alike (correlation {self.across:.2f}, within each part {self.within:.2f});"
            " --canary asks the model which rows are not its own"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedLengths:
    """What else speaks for two models: rows of length 1, and the lengths of all others."""

    rows: int
    normalised: int
    least: float
    most: float

    @property
    def words(self) -> str:
        return (
            f"vectors look like those of two models: of {self.rows} sampled rows"
            f" {_share(self.normalised, self.rows)} have the length 1, the others"
            f" {self.least:.3g} to {self.most:.3g}; or one model's, which only some writers"
            " normalise: then only searches by cosine compare them rightly"
        )


def mixed_models(
    texts: Sequence[str], vectors: NDArray[np.float32]
) -> MixedModels | MixedLengths | None:
    """What speaks for two models in a sample: (rows, dimensions); None: nothing.

    Rows whose vector has no length that can be compared are for other checks, and left out.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(vectors, axis=1)
    sound = np.isfinite(norms) & (norms > 0)
    texts = [text for text, kept in zip(texts, sound, strict=True) if kept]
    vectors, norms = vectors[sound], norms[sound]
    rows, dimensions = vectors.shape
    if rows < FEWEST_ROWS:
        return None
    if (lengths := _mixed_lengths(norms)) is not None:
        return lengths
    if dimensions < FEWEST_DIMENSIONS:
        return None
    units = vectors / norms[:, None]
    cosines, likeness = units @ units.T, _likeness(texts)
    told = (_judged(cosines, likeness, part) for part in _partings(units, cosines))
    return max(
        (one for one in told if one is not None),
        key=lambda one: one.within - one.across,
        default=None,
    )


def _share(some: int, rows: int) -> str:
    share = some / rows
    error = 1.96 * (share * (1.0 - share) / rows) ** 0.5
    return f"{some} ({share:.0%}, give or take {error:.0%})"


def _mixed_lengths(norms: NDArray[np.float32]) -> MixedLengths | None:
    from_unit = np.abs(norms - 1.0)
    others = norms[from_unit > UNIT]
    normalised = len(norms) - len(others)
    if min(normalised, len(others)) < FEWEST_OF_A_LENGTH or np.abs(others - 1.0).min() < GAP:
        return None
    return MixedLengths(
        rows=len(norms),
        normalised=normalised,
        least=float(others.min()),
        most=float(others.max()),
    )


def _judged(
    cosines: NDArray[np.float32], likeness: NDArray[np.float32], part: NDArray[np.bool_]
) -> MixedModels | None:
    """The two parts as two models', where they are."""
    one, other = np.flatnonzero(part), np.flatnonzero(~part)
    smaller = min(len(one), len(other))
    if smaller < FEWEST_OF_A_MODEL:
        return None
    across = _Relation.between(cosines, likeness, one, other)
    each = [_Relation.between(cosines, likeness, rows, rows) for rows in (one, other)]
    within = min(side.told for side in each)
    if (
        within < TOLD_WITHIN
        or across.told + 2.0 * across.error > TOLD_ACROSS * within
        or across.likeness < WORDS_ACROSS * max(side.likeness for side in each)
    ):
        return None
    return MixedModels(rows=len(part), smaller=smaller, within=within, across=across.told)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Relation:
    """How far likeness of words tells nearness between rows, beyond what each row's means tell."""

    told: float
    """Correlation."""
    error: float
    """Its standard error: large where few pairs have words in common."""
    likeness: float
    """The mean over all pairs."""

    @classmethod
    def between(
        cls,
        cosines: NDArray[np.float32],
        likeness: NDArray[np.float32],
        some: NDArray[np.intp],
        others: NDArray[np.intp],
    ) -> _Relation:
        block, pairs = np.ix_(some, others), some[:, None] != others[None, :]
        near, like = (_beyond_means(matrix[block], pairs) for matrix in (cosines, likeness))
        both = near * like
        scale = max(float(np.sqrt((near**2).sum() * (like**2).sum())), 1e-12)
        return cls(
            told=float(both.sum()) / scale,
            error=float(np.sqrt((both**2).sum())) / scale,
            likeness=float(likeness[block][pairs].mean()),
        )


def _beyond_means(matrix: NDArray[np.float32], pairs: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What a row's mean and a column's do not tell, of rows with others."""
    filled = np.where(pairs, matrix, matrix[pairs].mean())
    rows, columns = filled.mean(axis=1, keepdims=True), filled.mean(axis=0, keepdims=True)
    beyond: NDArray[np.float32] = (filled - rows - columns + filled.mean())[pairs]
    return beyond


def _partings(
    units: NDArray[np.float32], cosines: NDArray[np.float32]
) -> Iterator[NDArray[np.bool_]]:
    """Ways to part the rows in two by their vectors: some of them part topics, one the models."""
    central = int(cosines.mean(axis=1).argmax())
    others = np.random.default_rng(0).permutation(len(units))[: STARTS - 1]
    for first in (central, *others):
        yield _parted(units, units[[first, int(cosines[first].argmin())]])
    direction = cosines[central]
    for _ in range(POWERS):
        direction = cosines @ direction
        direction /= np.linalg.norm(direction)
    yield direction > 0.0  # of the largest variance


def _parted(units: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of two parts each row is in: k-means on the sphere, begun with two rows far apart."""
    part = np.zeros(len(units), dtype=np.bool_)
    for _ in range(ROUNDS):
        near = units @ centres.T
        moved = near[:, 1] > near[:, 0]
        if not moved.any() or moved.all() or (moved == part).all():
            break
        part = moved
        centres = np.stack([units[~part].mean(axis=0), units[part].mean(axis=0)])
        centres /= np.linalg.norm(centres, axis=1)[:, None]
    return part


def _likeness(texts: Sequence[str]) -> NDArray[np.float32]:
    """Of each pair the cosine of their words, rare ones counting for more: TF-IDF's."""
    bags = np.zeros((len(texts), BUCKETS), dtype=np.float32)
    for bag, text in zip(bags, texts, strict=True):
        for word in _WORD.findall(text.lower()):
            bag[crc32(word.encode("utf-8", "surrogatepass")) % BUCKETS] += 1.0
    rarity = np.log((1 + len(texts)) / (1 + (bags > 0.0).sum(axis=0)))
    weights = np.log1p(bags) * rarity.astype(np.float32)
    weights /= np.maximum(np.linalg.norm(weights, axis=1), 1e-12)[:, None]
    likeness: NDArray[np.float32] = weights @ weights.T
    return likeness
