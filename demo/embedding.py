"""Embeds texts without a network, so that those that share words and stems are near each other.

Hashes words, word pairs and character n-grams into signed features; does not understand meaning.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import lru_cache
from hashlib import blake2b, shake_128
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL = "text-embedding-3-small"
DIMENSIONS = {MODEL: 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
"""Full dimension by model, as OpenAI's models of these names have it."""

PAIR_WEIGHT = 0.5
GRAM_WEIGHT = 0.35
STOP_WORD_WEIGHT = 0.08
WHOLE_TEXT_WEIGHT = 0.05
"""Small enough not to matter to a search, so that texts with the same words still differ."""

WHOLE_TEXT_STEPS = 255
"""Odd: then no dimension is zero, as in a model's own vectors, however few words a text has."""

GRAM_LENGTHS = (4, 5)

_STOP_WORDS_TEXT = """
a an and any are as at be been but by can do does for from has have how i if in into is it its may
my no not of on one or self should so such than that the their them then there these this to two use
used using was we what when where which will with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS_TEXT.split())

# Splits snake_case, dotted names and camelCase, so that a name and a sentence share words.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W_A-Za-z]+")


def embed(text: str, *, model: str = MODEL, dimensions: int | None = None) -> NDArray[np.float32]:
    """The text's embedding: shape (dimensions,), float32, unit norm; the same bits on every call.

    `model` seeds the hashing: vectors of two models are unrelated. A model of unknown name has 1536
    dimensions. Fewer `dimensions` cut the vector and normalise it again, as OpenAI's models do.
    """
    full = DIMENSIONS.get(model, DIMENSIONS[MODEL])
    size = full if dimensions is None else dimensions
    if not 1 <= size <= full:
        raise ValueError(f"expected between 1 and {full} dimensions for {model}, found {size}")
    words = [word.lower() for word in _WORD.findall(text)]
    places: list[int] = []
    weights: list[float] = []
    for word, count in Counter(words).items():
        damped = 1.0 + math.log(count)
        for place, weight in _word_features(word, model):
            places.append(place % full)
            weights.append(weight * damped)
    for first, second in dict.fromkeys(pairwise(words)):
        if first not in STOP_WORDS and second not in STOP_WORDS:
            place, sign = _hashed(f"{first} {second}", model)
            places.append(place % full)
            weights.append(sign * PAIR_WEIGHT)
    vector = np.bincount(places, weights, minlength=full)[:size] + _of_whole_text(text, model, size)
    return (vector / math.sqrt(float(vector @ vector))).astype(np.float32)


def _of_whole_text(text: str, model: str, size: int) -> NDArray[np.float64]:
    """A direction of the text's own in all dimensions, of length `WHOLE_TEXT_WEIGHT`."""
    seed = f"{model}\0{text}".encode("utf-8", "surrogatepass")
    steps = np.frombuffer(shake_128(seed).digest(size), dtype=np.uint8)
    direction: NDArray[np.float64] = steps.astype(np.float64) - WHOLE_TEXT_STEPS / 2
    direction *= WHOLE_TEXT_WEIGHT / math.sqrt(float(direction @ direction))
    return direction


@lru_cache(maxsize=65536)
def _word_features(word: str, model: str) -> tuple[tuple[int, float], ...]:
    """Hash and signed weight of a word and its n-grams; the n-grams stand in for a stemmer."""
    if word in STOP_WORDS:
        place, sign = _hashed(word, model)
        return ((place, sign * STOP_WORD_WEIGHT),)
    padded = f"<{word}>"
    grams = {
        padded[start : start + length]
        for length in GRAM_LENGTHS
        for start in range(len(padded) - length + 1)
    }
    hashed = [(_hashed(word, model), 1.0)]
    # Sorted: the order of a set of strings changes from process to process, and so do sums.
    # The weight of each falls with their number, so that a long word weighs no more than two.
    share = GRAM_WEIGHT * 2 / math.sqrt(len(grams) + 1)
    hashed.extend((_hashed(f"#{gram}", model), share) for gram in sorted(grams))
    return tuple((place, sign * weight) for (place, sign), weight in hashed)


@lru_cache(maxsize=262144)
def _hashed(feature: str, model: str) -> tuple[int, float]:
    seed = blake2b(model.encode(), digest_size=16).digest()
    number = int.from_bytes(
        blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8, key=seed).digest(), "big"
    )
    return number >> 1, 1.0 if number & 1 else -1.0
