"""Embeds texts of which the provider may refuse some, by bisecting until each refused one is alone.

Must not decide what becomes of a row; says only what the provider did with each text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remediation.provider.errors import (
    InputRejected,
    ModelUnavailable,
    NotYet,
    ProviderError,
    Tries,
    shown,
    unsendable,
)
from remediation.provider.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from remediation.provider.embedder import Embedder

CONTROL_TEXT = "hello"
"""A text that no provider refuses for what it says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A text shortened for a provider that refused the whole of it, and the words for that."""

    text: str = field(repr=False)
    note: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Isolated:
    """What became of each text, aligned with the texts, and the usage.

    A text has a vector (float32, shape (dimensions,)), or is refused for good (InputRejected), or
    was not reached (None): then `failure` says why. Vectors that were paid for before are kept.
    Where `failure` is NotYet, `left` has the positions to ask for again, each group in a request of
    its own, the group that has to wait first. `cut` has the texts that were shortened, and to what.
    """

    outcomes: tuple[NDArray[np.float32] | InputRejected | None, ...]
    failure: ProviderError | None
    usage: Usage
    left: tuple[tuple[int, ...], ...] = ()
    cut: Mapping[int, str] = field(default_factory=dict)


def embed_isolating(
    embedder: Embedder,
    texts: Sequence[str],
    *,
    earlier: Tries | None = None,
    shorter: Callable[[str], Iterable[Cut]] = lambda _: (),
) -> Isolated:
    """Embed every text that the provider takes, whatever texts are in the same request.

    One refused text among n costs about 2 log2(n) further requests. Empty texts are never sent. A
    text that is refused alone is sent once more in each of its `shorter` forms until one is taken.
    With `earlier`, as in `Embedder.embed`, the work ends where a request would have to wait; only
    the request about a single text, which goes with the one before it, waits.
    Raises no ProviderError: what ends the work early is in `failure`.
    """
    outcomes: list[NDArray[np.float32] | InputRejected | None] = [unsendable(t) for t in texts]
    sendable = [position for position, outcome in enumerate(outcomes) if outcome is None]
    waiting = [sendable] if sendable else []
    usage = Usage()
    cut: dict[int, str] = {}
    failure: ProviderError | None = None
    while waiting:
        group = waiting.pop()
        try:
            embedded = embedder.embed([texts[position] for position in group], earlier=earlier)
        except InputRejected as rejected:
            usage += rejected.usage
            if rejected.usage.requests and not embedder.has_embedded:
                try:
                    usage += embedder.embed([CONTROL_TEXT]).usage
                except ProviderError as error:
                    failure = _not_the_text(error)
                    usage += error.usage
                    break
            if len(group) > 1:
                middle = len(group) // 2
                waiting += [group[middle:], group[:middle]]
                continue
            position = group[0]
            outcomes[position] = rejected.with_traceback(None)
            try:
                for form in shorter(texts[position]):
                    vector, took = _taken(embedder, form.text)
                    usage += took
                    if vector is not None:
                        outcomes[position], cut[position] = vector, form.note
                        break
            except ProviderError as error:
                outcomes[position], failure = None, error
                usage += error.usage
                break
        except ProviderError as error:
            failure = error
            usage += error.usage
            waiting.append(group)
            break
        else:
            usage += embedded.usage
            for position, vector in zip(group, embedded.vectors, strict=True):
                outcomes[position] = vector
        earlier = Tries() if earlier is not None else None
    return Isolated(
        outcomes=tuple(outcomes),
        failure=failure,
        usage=usage,
        left=tuple(map(tuple, reversed(waiting))) if isinstance(failure, NotYet) else (),
        cut=cut,
    )


def _taken(embedder: Embedder, text: str) -> tuple[NDArray[np.float32] | None, Usage]:
    """The vector of one text, or None where it is refused. Raises ProviderError otherwise."""
    try:
        embedded = embedder.embed([text])
    except InputRejected as rejected:
        return None, rejected.usage
    vector: NDArray[np.float32] = embedded.vectors[0]
    return vector, embedded.usage


def _not_the_text(error: ProviderError) -> ProviderError:
    """The error where the provider refuses a harmless text too: no row is to blame."""
    if not isinstance(error, InputRejected):
        return error
    return ModelUnavailable(
        shown(f"provider refuses any text, check the [provider] settings: {error.reason}")
    )
