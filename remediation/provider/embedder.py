"""Embeds texts with one tenant's key: waits for its turn, and tries again while that may help.

Must not write anything, choose a key, know a vendor, or let a key or a text into an error, a log or
a traceback.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from checks.redaction import redactor
from remediation.provider.answered_names import AnsweredNames
from remediation.provider.errors import (
    Busy,
    InputRejected,
    KeyRefused,
    NotYet,
    ProviderError,
    SameVector,
    Stopped,
    Tries,
    Unreachable,
    UntrustworthyResponse,
    unsendable,
)
from remediation.provider.protocol import Answer, TryFailed, require_as_asked
from remediation.provider.rate_limits import RateLimit, Sent
from remediation.provider.reachability import LONGEST_HOLD, Reachability
from remediation.provider.request_size import RequestSize
from remediation.provider.retry import RetryPolicy
from remediation.provider.tokens import EstimatedTokens
from remediation.provider.usage import NOTHING, Usage

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pydantic import SecretStr

    from remediation.provider.endpoint import Endpoint
    from remediation.provider.protocol import EmbeddingProvider
    from remediation.provider.tokens import TokenCounter

TOKENS_AROUND = 16
"""Tokens that a model or its server puts around each text, at most: two, and a few of a prefix."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Embedded:
    """Vectors aligned with the texts (float32, shape (texts, stored dimensions)), and usage."""

    vectors: NDArray[np.float32]
    usage: Usage


class Embedder:
    """Embeds texts with one key, at a provider that others may use too. Safe across threads.

    `limit` is that of the key, shared by all that send with it; `size` is that of the endpoint.
    Raises KeyRefused for a key that no HTTP header can carry.
    """

    def __init__(
        self,
        provider: EmbeddingProvider,
        api_key: SecretStr,
        *,
        stop: threading.Event,
        retry: RetryPolicy | None = None,
        limit: RateLimit | None = None,
        counter: TokenCounter | None = None,
        size: RequestSize | None = None,
        reachability: Reachability | None = None,
        names: AnsweredNames | None = None,
    ) -> None:
        key = api_key.get_secret_value()
        redactor.add(key)
        if not key or not all("!" <= character <= "~" for character in key):
            raise KeyRefused("the key is empty or holds characters that no HTTP header can carry")
        self.provider = provider
        self.has_embedded = False
        """Whether a request has succeeded, and no harmless text failed since: then the endpoint,
        the model and the key are in order."""
        self.fails_at_texts = False
        """Whether the endpoint is known to fail at some texts, without an outage."""
        self.heard: dict[str, str] = {}
        """Names of models that only who compares has taken, each as shown."""
        self.size = size or RequestSize()
        self._api_key = api_key
        self._stop = stop
        self._retry = retry or RetryPolicy()
        self._limit = limit or RateLimit()
        self._counter = counter or EstimatedTokens()
        self._reachability = reachability or Reachability()
        self._names = names or AnsweredNames()
        self._dead: str | None = None

    @property
    def refused(self) -> bool:
        """Whether nothing more is sent with the key: the provider does not take it."""
        return self._dead is not None

    @property
    def endpoint(self) -> Endpoint:
        """Where the texts are embedded."""
        return self.provider.endpoint

    def count(self, text: str) -> int:
        """Tokens of a text, as they count against limits."""
        return self._counter.count(text)

    def embed(
        self,
        texts: Sequence[str],
        *,
        earlier: Tries | None = None,
        tries: int | None = None,
        comparing: bool = False,
    ) -> Embedded:
        """One vector per text, from one request that is repeated while that may help.

        Waits for the key's turn and between tries. With `earlier`, the former tries of the same
        request, it never waits and raises NotYet instead. `tries` are as many as there are at most,
        but for those that only the key's rate limit ends. `comparing`: the vectors are compared
        with stored ones and not written, so the model may have any name.
        Raises InputRejected, without a request, where a text is empty or cannot be encoded, or
        where the texts are too many for the key's limits; a ProviderError of another kind as its
        name says; ValueError for no texts.
        """
        if not texts:
            raise ValueError("expected at least one text to embed, found none")
        for text in texts:
            if not_sendable := unsendable(text):
                raise not_sendable
        tokens = sum(self._counter.count(text) for text in texts)
        if too_large := self._limit.too_large(tokens, alone=len(texts) == 1):
            raise InputRejected(too_large)
        came = self._tried(texts, tokens, earlier, tries, comparing=comparing)
        if isinstance(came, ProviderError):
            # The exception behind it may hold the request, and the key in its headers.
            came.__cause__ = came.__context__ = None
            raise came.with_traceback(None)
        self.has_embedded = True
        return came

    def _tried(
        self,
        texts: Sequence[str],
        tokens: int,
        earlier: Tries | None,
        most: int | None,
        *,
        comparing: bool,
    ) -> Embedded | ProviderError:
        """Try until there are vectors, or no further try. Raises neither."""
        tries, usage = earlier or Tries(), NOTHING
        reason = "its key has to wait"
        while True:
            sent = self._turn(tokens, None if earlier is None else NotYet(reason, tries))
            if isinstance(sent, ProviderError):
                sent.usage = usage
                return sent
            begun = time.monotonic()
            try:
                came = self._asked(texts, comparing=comparing)
            except BaseException:  # a bug in a provider's module: the key is no longer in use
                self._limit.end(sent)
                raise
            came = self._believed(came, texts, tokens)
            usage += _usage_of(came, tokens, time.monotonic() - begun)
            self._reachability.told(came.error if isinstance(came, TryFailed) else None)
            hold = None
            if isinstance(came, TryFailed) and came.again:
                tries = tries.and_one(came.error)
                hold = self._retry.delay(tries, came.wait)
                if self._reachability.unknown:
                    hold = min(hold, LONGEST_HOLD)
                reason = came.error.reason
            self._limit.end(
                sent, headers=came.told.headers, billed=came.told.tokens or 0, hold=hold
            )
            if isinstance(came, Answer):
                return Embedded(vectors=self._padded(came.vectors), usage=usage)
            policy = self._retry
            if most is not None and not isinstance(came.error, Busy):
                policy = replace(policy, attempts=most)
            if not came.again or policy.exhausted(tries, came.wait):
                return self._given_up(came, usage)

    def _turn(self, tokens: int, not_yet: NotYet | None) -> Sent | ProviderError:
        """Wait until the key may be used, or return why it is not, `not_yet` with its seconds."""
        while True:
            if self._stop.is_set():
                return Stopped("stopped before the provider answered")
            if self._dead is not None:
                return KeyRefused(self._dead)
            if (dead := self._reachability.dead) is not None:
                return dead
            held = self._limit.held
            if held > self._retry.longest_hold:
                return Busy(f"the provider asks to wait {held:.0f} s for this key")
            sent = self._limit.begin(tokens)
            if isinstance(sent, Sent):
                return sent
            if not_yet is not None:
                not_yet.seconds = sent
                return not_yet
            self._stop.wait(sent)

    def _asked(self, texts: Sequence[str], *, comparing: bool) -> Answer | TryFailed:
        """The result of one request; an answer that is not as asked for counts as a failed try."""
        try:
            answer = self.provider.ask(texts, self._api_key)
        except TryFailed as failed:
            return failed
        other = answer.other
        if other is not None and not self._names.allow(other, self.endpoint):
            if not comparing:
                return TryFailed(other.error, again=other.again, told=answer.told)
            self.heard[other.name] = other.shown
        try:
            require_as_asked(
                answer.vectors,
                texts=texts,
                dimensions=self.endpoint.dimensions,
                stored_as=self.endpoint.stored_as,
            )
        except UntrustworthyResponse as error:
            return TryFailed(error, again=True, told=answer.told)
        return answer

    def _padded(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        zeros = max(0, self.endpoint.stored_dimensions - vectors.shape[1])
        return np.pad(vectors, ((0, 0), (0, zeros))) if zeros else vectors

    def _believed(
        self, came: Answer | TryFailed, texts: Sequence[str], tokens: int
    ) -> Answer | TryFailed:
        """What came, without a bill that cannot be: then it counts as one that does not say.

        No vocabulary makes more tokens of a text than it has bytes. A tenant's own endpoint bills
        that tenant and nobody else, so it may use up no more of the run's dollars than planned.
        """
        most = tokens
        if not self.endpoint.own:
            most = sum(len(text.encode()) + TOKENS_AROUND for text in texts)
        if (came.told.tokens or 0) > most:
            told = replace(came.told, tokens=None)
            if isinstance(came, Answer):
                return replace(came, told=told)
            came.told = told
        return came

    def _given_up(self, failed: TryFailed, usage: Usage) -> ProviderError:
        error = failed.error
        if isinstance(error, Unreachable):
            error = self._reachability.given_up(error)
        error.usage = usage
        error.perhaps_a_text = error.perhaps_a_text and self.has_embedded
        if isinstance(error, KeyRefused) and not error.perhaps_a_text:
            self._dead = error.reason
        if failed.again and (failed.wait or 0.0) > self._retry.longest_retry_after:
            error.reason += f"; it asks to wait {failed.wait:.0f} s"
            error.args = (error.reason,)
        elif failed.again:
            error.perhaps_a_text = not isinstance(error, (Busy, SameVector))
        return error


def _usage_of(came: Answer | TryFailed, tokens: int, seconds: float) -> Usage:
    """The usage of one request whose texts were counted at so many tokens."""
    told = came.told.tokens
    return Usage(
        requests=1,
        unanswered=int(isinstance(came, TryFailed) and came.again),
        tokens=told or 0,
        unsaid=tokens if told is None else 0,
        seconds=seconds,
    )
