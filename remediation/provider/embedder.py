"""Asks an OpenAI-compatible endpoint for embeddings with one tenant's key.

Must not write anything, choose a key, or let a key or a text into an error, a log or a traceback.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import openai

from checks.redaction import redactor
from remediation.provider import response as provider_response
from remediation.provider.errors import (
    InputRejected,
    KeyRefused,
    NotYet,
    ProviderError,
    ProviderUnavailable,
    Stopped,
    Tries,
    UntrustworthyResponse,
    refusal,
    reveals,
    unsendable,
)
from remediation.provider.openai_client import client_of
from remediation.provider.rate_limits import RateLimit, Sent
from remediation.provider.request import whole_answer
from remediation.provider.retry import RetryPolicy, TryFailed, retry_after
from remediation.provider.tokens import EstimatedTokens
from remediation.provider.usage import Usage

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray
    from pydantic import SecretStr

    from remediation.provider.endpoint import Endpoint
    from remediation.provider.tokens import TokenCounter

# Below WARNING the client and its transport log headers and bodies: keys and texts.
for _name in ("openai", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Embedded:
    """Vectors aligned with the texts: float32, shape (texts, dimensions); and what they took."""

    vectors: NDArray[np.float32]
    usage: Usage


class Embedder:
    """Embeds texts with one key, over one client whose own retries are off. Safe across threads.

    The key is always the one given: OPENAI_ORG_ID, OPENAI_PROJECT_ID and an Authorization among
    OPENAI_CUSTOM_HEADERS, which the client would add by itself, belong to someone else's key.
    `timeout` is in seconds: for a silence, and for one whole answer; connecting has less, see
    `client_of`. `limit` is that of the key, shared by all that send with it. Raises KeyRefused for
    a key that no HTTP header can carry.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        api_key: SecretStr,
        *,
        stop: threading.Event,
        timeout: float = 60.0,
        retry: RetryPolicy | None = None,
        limit: RateLimit | None = None,
        counter: TokenCounter | None = None,
    ) -> None:
        key = api_key.get_secret_value()
        redactor.add(key)
        if not key or not all("!" <= character <= "~" for character in key):
            raise KeyRefused("the key is empty or holds characters that no HTTP header can carry")
        self.endpoint = endpoint
        self.has_embedded = False
        """Whether any request has succeeded: the endpoint, the model and the key are in order."""
        self._api_key = api_key
        self._stop = stop
        self._timeout = timeout
        self._retry = retry or RetryPolicy()
        self._limit = limit or RateLimit()
        self._counter = counter or EstimatedTokens()
        self._dead: str | None = None
        self._client = client_of(endpoint, key, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def embed(self, texts: Sequence[str], *, earlier: Tries | None = None) -> Embedded:
        """One vector per text, from one request that is repeated while that may help.

        Waits for the key's turn and between tries; with `earlier`, the tries of the same request
        before, it never waits and raises NotYet instead. Raises InputRejected, without a request,
        where a text is empty or cannot be encoded, or where the texts are too many for the key's
        limits; a ProviderError of another kind as its name says; ValueError for no texts.
        """
        if not texts:
            raise ValueError("expected at least one text to embed, found none")
        for text in texts:
            if not_sendable := unsendable(text):
                raise not_sendable
        tokens = sum(self._counter.count(text) for text in texts)
        if too_large := self._limit.too_large(tokens, alone=len(texts) == 1):
            raise InputRejected(too_large)
        spent = _Spent()
        failure: ProviderError
        try:
            vectors = self._tried(texts, tokens, spent, earlier)
        except ProviderError as error:
            failure = error
        else:
            self.has_embedded = True
            return Embedded(
                vectors=vectors,
                usage=spent.usage,
            )
        failure.usage = spent.usage
        # Raised outside of the except clauses: no client error with its request, and the key in
        # its headers, stays reachable as the context.
        raise failure.with_traceback(None)

    def _tried(
        self, texts: Sequence[str], tokens: int, spent: _Spent, earlier: Tries | None
    ) -> NDArray[np.float32]:
        """Try until there are vectors, or no further try."""
        tries = earlier or Tries()
        reason = "its key has to wait"
        while True:
            sent = self._turn(tokens, None if earlier is None else NotYet(reason, tries))
            billed, hold = spent.tokens, None
            headers: dict[str, str] = {}
            given_up: ProviderError | None = None
            try:
                return self._try(texts, tokens, spent, headers)
            except KeyRefused as error:
                self._dead = error.reason
                raise
            except TryFailed as failed:
                spent.unanswered += 1
                tries = tries.and_one(untrustworthy=isinstance(failed.error, UntrustworthyResponse))
                hold = self._retry.delay(tries, failed.retry_after)
                reason = failed.error.reason
                if self._retry.exhausted(tries, failed.retry_after):
                    given_up = failed.error
                    if (failed.retry_after or 0.0) > self._retry.longest_retry_after:
                        given_up.reason += f"; it asks to wait {failed.retry_after:.0f} s"
                        given_up.args = (given_up.reason,)
            finally:
                self._limit.end(sent, headers=headers, billed=spent.tokens - billed, hold=hold)
            if given_up is not None:
                raise given_up

    def _turn(self, tokens: int, not_yet: NotYet | None) -> Sent:
        """Wait until the key may be used, or raise `not_yet` with the seconds to wait."""
        while True:
            if self._stop.is_set():
                raise Stopped("stopped before the provider answered")
            if self._dead is not None:
                raise KeyRefused(self._dead)
            held = self._limit.held
            if held > self._retry.longest_hold:
                raise ProviderUnavailable(f"the provider asks to wait {held:.0f} s for this key")
            sent = self._limit.begin(tokens)
            if isinstance(sent, Sent):
                return sent
            if not_yet is not None:
                not_yet.seconds = sent
                raise not_yet
            self._stop.wait(sent)

    def _try(
        self, texts: Sequence[str], tokens: int, spent: _Spent, headers: dict[str, str]
    ) -> NDArray[np.float32]:
        spent.requests += 1
        body = self._answer(texts, tokens, spent, headers)
        try:
            response = provider_response.parse(body)
            said, known = provider_response.usage(response)
            if known:
                spent.tokens += said
                spent.unsaid -= tokens

            def may_quote(words: str) -> bool:
                return not reveals(words, texts, self._api_key.get_secret_value())

            provider_response.require_model(response, self.endpoint, may_quote=may_quote)
            return provider_response.vectors(
                response, texts=texts, dimensions=self.endpoint.dimensions
            )
        except UntrustworthyResponse as error:
            failed = TryFailed(error)
        raise failed

    def _answer(
        self, texts: Sequence[str], tokens: int, spent: _Spent, headers: dict[str, str]
    ) -> bytes:
        """The body of a successful answer; `headers` takes in those of any answer."""
        failed: TryFailed | ProviderError
        try:
            # Billed, whatever becomes of the answer; as counted, until it says.
            return whole_answer(
                self._client,
                self.endpoint,
                texts,
                headers,
                timeout=self._timeout,
                on_success=lambda: spent.not_said_yet(tokens),
            )
        except UntrustworthyResponse as error:
            failed = TryFailed(error)
        except openai.APIStatusError as error:
            headers.update(error.response.headers)
            failed = self._refused(error, texts)
        except (openai.APITimeoutError, TimeoutError):
            failed = TryFailed(
                ProviderUnavailable(f"provider gave no whole answer within {self._timeout:g} s")
            )
        except Exception as error:  # while the body is read, the client's transport speaks itself
            cause = type(error.__cause__ or error).__name__
            failed = TryFailed(ProviderUnavailable(f"connection to the provider failed ({cause})"))
        raise failed

    def _refused(
        self, error: openai.APIStatusError, texts: Sequence[str]
    ) -> TryFailed | ProviderError:
        refused, worth_another_try = refusal(
            error.status_code,
            error.response.content,
            texts=texts,
            key=self._api_key.get_secret_value(),
            settings=self.endpoint.settings,
        )
        if worth_another_try:
            return TryFailed(refused, retry_after(error.response.headers))
        return refused


@dataclass(kw_only=True, slots=True)
class _Spent:
    requests: int = 0
    unanswered: int = 0
    tokens: int = 0
    unsaid: int = 0

    def not_said_yet(self, tokens: int) -> None:
        self.unsaid += tokens

    @property
    def usage(self) -> Usage:
        return Usage(
            requests=self.requests,
            unanswered=self.unanswered,
            tokens=self.tokens,
            unsaid=self.unsaid,
        )
