"""Embeds texts of which the provider may refuse some, by bisecting until each refused one is alone.

Must not decide what becomes of a row; says only what the provider did with each text.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from remediation.provider.errors import (
    InputRejected,
    ModelUnavailable,
    NotYet,
    ProviderError,
    TextFails,
    Tries,
    unsendable,
)
from remediation.provider.request_size import RequestSize
from remediation.provider.usage import NOTHING, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from remediation.provider.embedder import Embedded, Embedder

CONTROL_TEXT = "hello"
"""A text that no provider refuses for what it says."""

SEARCH_TRIES = 2
"""Tries of each request while it is found out which text an endpoint fails at."""
SEARCH_SECONDS = 600.0
"""For which one batch is searched: an endpoint may fail by its silence."""
FEW_TEXTS = 3
"""Texts of a batch that an endpoint may fail at although it embedded no more of them: beyond that
it is not the texts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A text shortened for a provider that refused the whole of it, and the words for that."""

    text: str = field(repr=False)
    note: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Isolated:
    """What became of each text, aligned with the texts, and the usage.

    A text has a vector (float32, shape (dimensions,)), or is refused for good (InputRejected; as
    TextFails, perhaps not for good), or was not reached (None): then `failure` says why. Vectors
    that were paid for before are kept.
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
    comparing: bool = False,
) -> Isolated:
    """Embed every text that the provider takes, whatever texts are in the same request.

    One refused text among n costs about 2 log2(n) further requests. So does one that makes its
    request fail, once all tries have failed and `CONTROL_TEXT` does not. Where each part of a
    refused request is taken, it was too large: the size is learnt, for all that ask there. Empty
    texts are never sent. A text that is refused alone is sent once more in each of its `shorter`
    forms until one is taken.
    `comparing` as in `Embedder.embed`. With `earlier`, as there, the work ends where a request
    would have to wait; only requests about a single text, and those of a search, wait.
    Raises no ProviderError: what ends the work early is in `failure`.
    """
    return _Isolation(embedder, texts, earlier=earlier, shorter=shorter, comparing=comparing).run()


@dataclass(kw_only=True, slots=True, eq=False)
class _Refused:
    """A request that was refused, or failed, and what became of its parts since."""

    error: ProviderError
    within: _Refused | None
    texts: int
    tokens: int
    missing: int
    """Its texts without a vector so far."""
    most_texts: int = 0
    """Of one of its parts that was embedded."""
    most_tokens: int = 0
    blamed: bool = False
    """Whether one of its texts is to blame."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Group:
    """Positions that go into one request, and the refused request that they are of."""

    positions: tuple[int, ...]
    of: _Refused | None = None


class _Isolation:
    """One call of `embed_isolating`. Create, `run()` once."""

    def __init__(
        self,
        embedder: Embedder,
        texts: Sequence[str],
        *,
        earlier: Tries | None,
        shorter: Callable[[str], Iterable[Cut]],
        comparing: bool,
    ) -> None:
        self._embedder, self._texts = embedder, texts
        self._embed = partial(embedder.embed, comparing=comparing)
        self._earlier, self._shorter = earlier, shorter
        self._outcomes: list[NDArray[np.float32] | InputRejected | None]
        self._outcomes = [unsendable(text) for text in texts]
        sendable = tuple(i for i, outcome in enumerate(self._outcomes) if outcome is None)
        self._waiting = [_Group(positions=sendable)] if sendable else []
        self._usage = NOTHING
        self._cut: dict[int, str] = {}
        self._tries = SEARCH_TRIES if embedder.fails_at_texts else None
        self._search_until: float | None = None
        self._embedded = self._blamed = 0
        self._controlled = self._plainer = False

    def run(self) -> Isolated:
        failure: ProviderError | None = None
        while self._waiting:
            group = self._waiting.pop()
            size = self._embedder.size
            first, trial = size.first(group.positions, self._tokens)
            if rest := group.positions[len(first) :]:
                self._waiting.append(_Group(positions=rest, of=group.of))
                group = _Group(positions=first, of=group.of)
            try:
                self._ask(group)
            except ProviderError as error:
                failure = error
                self._usage += error.usage
                self._waiting.append(group)
                break
            finally:
                if trial:
                    size.end_trial()
            self._earlier = Tries() if self._earlier is not None else None
        left = [group.positions for group in reversed(self._waiting)]
        return Isolated(
            outcomes=tuple(self._outcomes),
            failure=failure,
            usage=self._usage,
            left=tuple(left) if isinstance(failure, NotYet) else (),
            cut=self._cut,
        )

    def _ask(self, group: _Group) -> None:
        """Embed a group, or set out what to ask in its place. Raises what ends the work."""
        searching = self._search_until is not None
        try:
            embedded = self._embed(
                [self._texts[position] for position in group.positions],
                earlier=None if searching else self._earlier,
                tries=self._tries,
            )
        except InputRejected as rejected:
            self._usage += rejected.usage
            if rejected.usage.requests and not self._embedder.has_embedded:
                self._ask_control()
                if self._plainer:
                    self._plainer = False
                    self._waiting.append(group)
                    return
            self._refused(group, rejected)
        except ProviderError as error:
            if not error.perhaps_a_text:
                raise
            self._failed(group, error)
        else:
            self._take(group, embedded)

    def _take(self, group: _Group, embedded: Embedded) -> None:
        self._usage += embedded.usage
        for position, vector in zip(group.positions, embedded.vectors, strict=True):
            self._outcomes[position] = vector
        self._embedded += len(group.positions)
        texts = len(group.positions)
        size = self._embedder.size
        counted = group.of is not None or size.searched
        tokens = sum(map(self._tokens, group.positions)) if counted else 0
        size.taken(texts, tokens)
        for refused in _upwards(group.of):
            refused.missing -= texts
            refused.most_texts = max(refused.most_texts, texts)
            refused.most_tokens = max(refused.most_tokens, tokens)
            self._learn(refused)

    def _learn(self, refused: _Refused) -> None:
        """Learn the endpoint's size where a refused request was too large, and no text wrong."""
        size, said = self._embedder.size, refused.error.too_much
        unit = said.unit if said is not None else "texts"
        held, taken = (
            (refused.texts, refused.most_texts)
            if unit == "texts"
            else (refused.tokens, refused.most_tokens)
        )
        if refused.blamed:
            return
        if said is not None and said.most is not None and taken <= said.most < held:
            size.learn(unit, said.most, refused=held)
        elif refused.missing:
            return
        # A request may fail for another reason, and its parts not: an outage that is over.
        elif said is not None or size.doubt(held):
            size.learn(unit, taken, refused=held, said=said is not None, exact=False)

    def _refused(self, group: _Group, rejected: InputRejected) -> None:
        """Ask for the parts of a refused group; a text that stands alone is refused."""
        if len(group.positions) > 1:
            self._divide(group, rejected)
            return
        self._blamed += 1
        if self._blamed > max(FEW_TEXTS, self._embedded) and not self._controlled:
            self._ask_control()
        self._blame(group, rejected)

    def _failed(self, group: _Group, error: ProviderError) -> None:
        """Find out whether a text is why a group failed, and ask for its parts. Raises if not."""
        self._usage += error.usage
        error.usage = NOTHING
        if self._search_until is not None and time.monotonic() > self._search_until:
            raise error
        if not self._is_alive():
            if self._search_until is not None or self._tries is None:
                raise error
            # It may be over soon: as many tries as ever.
            self._tries = None
            self._waiting.append(group)
            return
        if self._search_until is None:
            self._search_until = time.monotonic() + SEARCH_SECONDS
            self._tries = SEARCH_TRIES
        if len(group.positions) > 1:
            self._divide(group, error)
            return
        self._blamed += 1
        if self._blamed > max(FEW_TEXTS, self._embedded):
            raise error
        self._blame(group, _fails(error))

    def _divide(self, group: _Group, error: ProviderError) -> None:
        """Put what its refusal allows, or else each half, in the place of a group."""
        positions, said, of = group.positions, error.too_much, group.of
        texts, tokens = len(positions), sum(map(self._tokens, positions))
        if said is not None and said.most is None:
            self._embedder.size.refuse(said.unit, texts if said.unit == "texts" else tokens)
        # What the settings' limits kept from being sent says nothing of the endpoint.
        if not isinstance(error, InputRejected) or error.usage.requests:
            of = _Refused(error=error, within=group.of, texts=texts, tokens=tokens, missing=texts)
        stated = RequestSize()
        if said is not None and said.most is not None:
            stated.learn(said.unit, said.most, refused=0)
        parts = stated.parts(positions, self._tokens)
        if len(parts) == 1:
            middle = len(positions) // 2
            parts = [positions[:middle], positions[middle:]]
        self._waiting += [_Group(positions=part, of=of) for part in reversed(parts)]

    def _blame(self, group: _Group, error: InputRejected) -> None:
        """Embed a shorter form of a text that is refused, or fails, alone, or enter the error."""
        (position,) = group.positions
        for refused in _upwards(group.of):
            refused.blamed = True
        for form in self._shorter(self._texts[position]):
            try:
                embedded = self._embed([form.text], tries=self._tries)
            except InputRejected as rejected:
                self._usage += rejected.usage
            except ProviderError as failed:
                if not failed.perhaps_a_text or not self._is_alive():
                    raise
                self._usage += failed.usage
                error = _fails(failed)
            else:
                self._usage += embedded.usage
                self._outcomes[position], self._cut[position] = embedded.vectors[0], form.note
                return
        self._outcomes[position] = error.with_traceback(None)
        if isinstance(error, TextFails):
            self._embedder.fails_at_texts = True

    def _is_alive(self) -> bool:
        """Whether the endpoint answers to a harmless text, now that it failed at others."""
        try:
            self._ask_control(tries=SEARCH_TRIES)
        except ProviderError as error:
            self._usage += error.usage
            self._embedder.has_embedded = False
            return False
        return True

    def _ask_control(self, *, tries: int | None = None) -> None:
        """Ask for a harmless text. Raises where that has no answer: no text is to blame."""
        try:
            self._usage += self._embed([CONTROL_TEXT], tries=tries).usage
        except InputRejected as rejected:
            if not self._embedder.has_embedded and self._embedder.provider.plainer():
                self._usage += rejected.usage
                self._plainer = True
                self._ask_control(tries=tries)
                return
            refuses = ModelUnavailable(
                f"provider refuses any text, check the [provider] settings: {rejected.reason}"
            )
            refuses.usage = rejected.usage
            raise refuses from None
        self._controlled = True

    def _tokens(self, position: int) -> int:
        return self._embedder.count(self._texts[position])


def _upwards(refused: _Refused | None) -> Iterator[_Refused]:
    """A refused request, and those that it was a part of, the smallest first."""
    while refused is not None:
        yield refused
        refused = refused.within


def _fails(error: ProviderError) -> TextFails:
    return TextFails(f"the provider fails at this text, not at another: {error.reason}")
