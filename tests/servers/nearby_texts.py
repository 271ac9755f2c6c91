"""An endpoint whose model puts nearly the same texts near each other, as real models do."""

from __future__ import annotations

import re
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.servers.provider_server import Body

DIMENSIONS = 256


def near_vector(text: str) -> NDArray[np.float32]:
    """A unit vector of the text's pieces: a separator is a piece or two among many."""
    tokens = re.findall(r"\w+|[^\w\s]|\s+", text)
    pieces = [t[i : i + n] for t in tokens for n in (2, 3, 4, 5) for i in range(len(t) - n + 1)]
    vector = np.arange(DIMENSIONS) / 1e4
    for piece in [*tokens, *pieces, *("|".join(pair) for pair in pairwise(tokens))]:
        hashed = blake2b(piece.encode(), digest_size=4).digest()
        vector[int.from_bytes(hashed[:2], "big") % DIMENSIONS] += 1.0 if hashed[3] & 1 else -1.0
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class NearServer(ProviderServer):
    """`noise` is the cosine distance of two answers to the same text, about."""

    def __init__(self, noise: float = 0.0) -> None:
        super().__init__(dimensions=DIMENSIONS)
        self._scale = np.sqrt(noise / DIMENSIONS)
        self._generator = np.random.default_rng(7)

    def answer(self, texts: tuple[str, ...]) -> Body:
        answer = super().answer(texts)
        for text, item in zip(texts, answer["data"], strict=True):
            vector = near_vector(text)
            vector += self._generator.standard_normal(DIMENSIONS) * self._scale
            item["embedding"] = self._encode(vector)
        return answer


def near_literal(text: str) -> str:
    """The vector as SQL writes it."""
    return "[" + ",".join(map(str, near_vector(text).tolist())) + "]"
