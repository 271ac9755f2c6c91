"""Defines what a provider is asked and answers: texts in; vectors and their usage out.

Knows no HTTP and no vendor. Another provider is one more module that implements
`EmbeddingProvider`; turns, tries, bisection and lending rely only on what is defined here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from checks.database.vectors.health import healthy
from checks.row_checks.essence import BEGINNING, essence
from remediation.provider.errors import SameVector, UntrustworthyResponse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from pydantic import SecretStr

    from remediation.provider.answered_names import OtherName
    from remediation.provider.endpoint import Endpoint
    from remediation.provider.errors import ProviderError


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What a provider reported beside its vectors, or instead of them."""

    tokens: int | None = 0
    """Tokens billed for the request; None: it was answered, and the answer does not say."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers by lower-case name; `x-ratelimit-*` say how soon the key may be used again."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answer:
    """The answer to one request: vectors aligned with its texts, float32, (texts, dimensions)."""

    vectors: NDArray[np.float32] = field(repr=False)
    told: Told
    other: OtherName | None = None
    """The name that it carries, where it need not be that of the model asked for."""


class TryFailed(Exception):  # noqa: N818 - never leaves this package: the embedder handles it
    """One request that brought no vectors.

    `again` says whether another try may help, and `wait` is the time in seconds that the provider
    asks for before it.
    """

    def __init__(
        self,
        error: ProviderError,
        *,
        again: bool,
        wait: float | None = None,
        told: Told | None = None,
    ) -> None:
        super().__init__(error.reason)
        self.error = error
        self.again = again
        self.wait = wait
        self.told = told or Told()


class EmbeddingProvider(Protocol):
    """One endpoint, for whatever keys. Safe across threads.

    Keeps no key: each request carries the one that it is given and no other. Never retries, and
    waits for nothing but the answer, whose time it bounds itself. Keeps its connections in
    `open_sockets`, so that a stop can cut them.
    """

    @property
    def endpoint(self) -> Endpoint:
        """Where it asks, and for which vectors."""

    def ask(self, texts: Sequence[str], key: SecretStr) -> Answer:
        """Send one request. Raises only TryFailed, without the request in its context."""

    def plainer(self) -> bool:
        """Ask in a plainer form from now on, as any text is refused; False: there is none."""

    def close(self) -> None:
        """Cut the connections, and whoever waits for an answer; nothing is asked after that."""


def require_as_asked(
    vectors: NDArray[np.float32],
    *,
    texts: Sequence[str],
    dimensions: int,
    stored_as: str = "vector",
) -> None:
    """Check an answer against what was asked: a finite, non-zero vector for each text.

    As a column of the type `stored_as` would hold it, pgvector must be able to compute with it.

    Raises UntrustworthyResponse where it is not, or where all texts, though they differ in how they
    begin, have the same vector.
    """
    if vectors.shape != (len(texts), dimensions):
        raise UntrustworthyResponse(
            f"expected {len(texts)} vectors of {dimensions} dimensions, found"
            f" {' x '.join(map(str, vectors.shape))} numbers"
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise UntrustworthyResponse(
            f"expected finite numbers, embedding {int(np.argmin(finite))} holds NaN or infinity"
        )
    nonzero = vectors.any(axis=1)
    if not nonzero.all():
        raise UntrustworthyResponse(
            f"expected a vector with a length, embedding {int(np.argmin(nonzero))} is all zeros"
        )
    sound = healthy(vectors, stored_as)
    if not sound.all():
        raise UntrustworthyResponse(
            f"expected a vector that can be compared, embedding {int(np.argmin(sound))} is too long"
            f" or too short for {stored_as}"
        )
    if (vectors == vectors[0]).all():
        different = len({essence(text, characters=BEGINNING) for text in texts})
        if different > 1:
            raise SameVector(
                "expected a vector for each text, found the same one for"
                f" {different} different texts"
            )
