"""Embeds texts of which the provider may refuse some: bisects until each refused one stands alone.

Must not decide what becomes of a row; it says for each text what the provider did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remediation.provider_errors import (
    InputRejected,
    ModelUnavailable,
    ProviderError,
    shown,
    unsendable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from remediation.provider import Embedder

CONTROL_TEXT = "hello"
"""A text that no provider refuses for what it says."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Isolated:
    """What became of each text, aligned with the texts, and what it took.

    A text has a vector (float32, shape (dimensions,)), or is refused for good (InputRejected), or
    was not reached (None): then `failure` says why. What was paid for before it is not lost.
    `tokens` and `requests` count as in `Embedded`.
    """

    outcomes: tuple[NDArray[np.float32] | InputRejected | None, ...]
    failure: ProviderError | None
    tokens: int
    tokens_known: bool
    requests: int


def embed_isolating(embedder: Embedder, texts: Sequence[str]) -> Isolated:
    """Every text that the provider takes is embedded, whatever stands beside it.

    One refused text among n costs about 2 log2(n) further requests. Empty texts are never sent.
    Raises no ProviderError: what ends the work early is in `failure`.
    """
    outcomes: list[NDArray[np.float32] | InputRejected | None] = [unsendable(t) for t in texts]
    sendable = [position for position, outcome in enumerate(outcomes) if outcome is None]
    waiting = [sendable] if sendable else []
    tokens = requests = 0
    tokens_known = True
    failure: ProviderError | None = None
    while waiting:
        group = waiting.pop()
        try:
            embedded = embedder.embed([texts[position] for position in group])
        except InputRejected as rejected:
            tokens += rejected.tokens
            requests += rejected.requests
            if not embedder.has_embedded:
                try:
                    control = embedder.embed([CONTROL_TEXT])
                except ProviderError as error:
                    failure = _not_the_text(error)
                    tokens += error.tokens
                    requests += error.requests
                    break
                tokens += control.tokens
                requests += control.requests
            if len(group) == 1:
                outcomes[group[0]] = rejected.with_traceback(None)
            else:
                middle = len(group) // 2
                waiting += [group[middle:], group[:middle]]
        except ProviderError as error:
            failure = error
            tokens += error.tokens
            requests += error.requests
            break
        else:
            tokens += embedded.tokens
            tokens_known &= embedded.tokens_known
            requests += embedded.requests
            for position, vector in zip(group, embedded.vectors, strict=True):
                outcomes[position] = vector
    return Isolated(
        outcomes=tuple(outcomes),
        failure=failure,
        tokens=tokens,
        tokens_known=tokens_known,
        requests=requests,
    )


def _not_the_text(error: ProviderError) -> ProviderError:
    """A provider that refuses a harmless text too refuses the request: no row is to blame."""
    if not isinstance(error, InputRejected):
        return error
    return ModelUnavailable(
        shown(f"provider refuses any text, check the [provider] settings: {error.reason}")
    )
