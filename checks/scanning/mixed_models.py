"""Tells vectors of two models in one column by a sample, without a provider.

Rows of much the same words are near each other in any one model. Where a sample falls into two
parts within which they are, and across which they are at right angles, two models made it. Topics
do not look like that: rows of two topics have few words in common, and their words tell which part
they are in. Where all texts have the same words but for a number, nothing is told.

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
    from collections.abc import Sequence

    from numpy.typing import NDArray

FEWEST_ROWS = 40
"""Below this nothing is told."""
FEWEST_DIMENSIONS = 32
"""In fewer, unrelated vectors are not at right angles."""
ALIKE = 0.3
"""Share of common words (Jaccard's) from which on two texts are of much the same words."""
COMMON = 0.6
"""Share of the rows from which on a word of theirs says nothing of a text: one of a form letter."""
TOLD_BY_WORDS = 0.3
"""How much more often than by chance, of what is left to certainty, texts like a row's may be in
its own part."""
FEWEST_PAIRS = 20
"""Such pairs across both parts, and within each."""
TOGETHER = 0.4
"""The least mean cosine of such pairs within a part."""
APART = 0.1
"""The most that their mean cosine across the parts is from zero."""
BUCKETS = 4096
ROUNDS = 12
UNIT = 0.002
"""How far from 1 the length of a normalised vector may be, stored in half precision."""
GAP = 0.05
"""How far from 1 all others are at least."""
FEWEST_OF_A_LENGTH = 8
"""Rows of either kind."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedModels:
    """What speaks for two models: rows of the smaller part, and cosines of rows of like words."""

    rows: int
    smaller: int
    within: float
    across: float

    @property
    def words(self) -> str:
        return (
            f"vectors look like those of two models: of {self.rows} sampled rows"
            f" {_share(self.smaller, self.rows)} are at right angles to the others though"
            f" their texts have the same words (mean cosine {self.across:.2f}, within each part"
            f" {self.within:.2f}); --canary asks the model which rows are not its own"
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
    cosines = units @ units.T
    part = _parts(units, cosines)
    alike = _alike(texts)
    if _told_by_words(part, alike):
        return None
    alike = np.triu(alike)
    across = alike & (part[:, None] != part[None, :])
    inside = [alike & np.outer(part == side, part == side) for side in (False, True)]
    if min(int(pairs.sum()) for pairs in (across, *inside)) < FEWEST_PAIRS:
        return None
    within = min(float(cosines[pairs].mean()) for pairs in inside)
    between = float(cosines[across].mean())
    # No such pair across may look like one within.
    overlap = np.quantile(cosines[across], 0.95) >= np.quantile(
        cosines[inside[0] | inside[1]], 0.05
    )
    if within < TOGETHER or abs(between) > APART or overlap:
        return None
    smaller = min(int(part.sum()), rows - int(part.sum()))
    return MixedModels(rows=rows, smaller=smaller, within=within, across=between)


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


def _parts(units: NDArray[np.float32], cosines: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of two parts each row is in: k-means on the sphere, begun with two far apart."""
    nearness = cosines.mean(axis=1)
    first = int(nearness.argmax())
    centres = np.stack([units[first], units[int(cosines[first].argmin())]])
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


def _alike(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Which pairs of texts have much the same words; none with itself."""
    bags = np.zeros((len(texts), BUCKETS), dtype=np.float32)
    for bag, text in zip(bags, texts, strict=True):
        for word in _WORD.findall(text.lower()):
            bag[crc32(word.encode("utf-8", "surrogatepass")) % BUCKETS] = 1.0
    bags[:, bags.mean(axis=0) > COMMON] = 0.0
    common = bags @ bags.T
    sizes = bags.sum(axis=1)
    alike = common >= ALIKE * np.maximum(sizes[:, None] + sizes[None, :] - common, 1.0)
    np.fill_diagonal(alike, val=False)
    return np.asarray(alike)


def _told_by_words(part: NDArray[np.bool_], alike: NDArray[np.bool_]) -> bool:
    """Whether a row's words tell its part: then the parts are topics, or may be."""
    likes = alike.sum(axis=1)
    known = likes > 0
    share = part.mean()
    by_chance = np.where(part, share, 1.0 - share)[known]
    same = (alike & (part[:, None] == part[None, :])).sum(axis=1)[known] / likes[known]
    # Of each part by itself: a small one hardly counts among all.
    return not all(
        (side := part[known] == one).any()
        and same[side].mean() - by_chance[side].mean()
        <= TOLD_BY_WORDS * (1.0 - by_chance[side].mean())
        for one in (False, True)
    )
