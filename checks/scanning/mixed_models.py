"""Tells vectors of two models in one column by a sample, without a provider.

In any one model, the more words two texts have in common, the nearer are their vectors. Where a
sample falls into two parts within which that is so, while across them every pair is at right angles
whatever its words, two models made it. Topics do not look like that: their vectors are near each
other where their words are, or they have no words in common, which then tell a row's part.

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
FEWEST_OF_A_PART = 8
"""Rows."""
WORDS_TELL = 0.2
"""The least correlation, within each part, of the words that two texts have in common with their
vectors' nearness. Below it, as in texts of a form letter, nothing is told. With real models and
prose: 0.35 and more."""
NOTHING_TELLS = 0.2
"""How much of what common words do to a cosine within the parts they do at most across them. With
two models 0.0 to 0.2; with one and topics that have words in common 0.4 and more."""
MIXED = 0.8
"""The least part that two things must be of what chance would have them be: the share of the pairs
with most words in common that are across the parts, and how far pairs across differ in these. Both
are less where each part has words of its own, as topics and languages do; of two models about 1.0.
"""
MOST_ALIKE = 0.9
"""Quantile of the pairs, by the words that they have in common."""
APART = 0.03
"""The most that the mean cosine across the parts is from zero. Of one model's texts it is seldom
less: 0.09 and 0.15 were seen of pairs by chance."""
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
    """What speaks for two models: rows of the smaller part, and the mean cosines of the pairs with
    most words in common, within the parts and across them."""

    rows: int
    smaller: int
    within: float
    across: float

    @property
    def words(self) -> str:
        return (
            f"vectors look like those of two models: of {self.rows} sampled rows"
            f" {_share(self.smaller, self.rows)} are at right angles to the others, also where"
            f" their texts have most words in common (mean cosine {self.across:.2f}, within each"
            f" part {self.within:.2f}); --canary asks the model which rows are not its own"
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
    smaller = min(int(part.sum()), rows - int(part.sum()))
    if smaller < FEWEST_OF_A_PART:
        return None
    pairs = np.triu_indices(rows, 1)
    across = part[pairs[0]] != part[pairs[1]]
    near, common = cosines[pairs], _words_in_common(texts)[pairs]
    if abs(float(near[across].mean())) > APART:
        return None
    alike = common > np.quantile(common, MOST_ALIKE)
    if alike[across].mean() < MIXED * alike.mean():
        return None
    if common[across].std() < MIXED * common[~across].std():
        return None
    correlation, rise = _by_words(common[~across], near[~across])
    _, across_rise = _by_words(common[across], near[across])
    if correlation < WORDS_TELL or across_rise > NOTHING_TELLS * rise:
        return None
    return MixedModels(
        rows=rows,
        smaller=smaller,
        within=float(near[alike & ~across].mean()),
        across=float(near[alike & across].mean()),
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


def _words_in_common(texts: Sequence[str]) -> NDArray[np.float32]:
    """The share of words that each two texts have in common, rare ones counting more (the cosine of
    their tf-idf vectors): (texts, texts)."""
    bags = np.zeros((len(texts), BUCKETS), dtype=np.float32)
    for bag, text in zip(bags, texts, strict=True):
        for word in _WORD.findall(text.lower()):
            bag[crc32(word.encode("utf-8", "surrogatepass")) % BUCKETS] += 1.0
    held_by = (bags > 0).sum(axis=0)
    rarity = np.where(held_by > 1, np.log(len(texts) / np.maximum(held_by, 1)), 0.0)
    weighted = np.log1p(bags) * rarity.astype(np.float32)
    weighted /= np.maximum(np.linalg.norm(weighted, axis=1), 1e-9)[:, None]
    common: NDArray[np.float32] = weighted @ weighted.T
    return common


def _by_words(common: NDArray[np.float32], near: NDArray[np.float32]) -> tuple[float, float]:
    """How the cosines of pairs go with their common words: the correlation, and the slope."""
    spread, of_cosines = float(common.std()), float(near.std())
    if spread < 1e-6 or of_cosines < 1e-6:
        return 0.0, 0.0
    covariance = float(((common - common.mean()) * (near - near.mean())).mean())
    return covariance / (spread * of_cosines), covariance / spread**2
