"""Asks an OpenAI-compatible endpoint for embeddings with one tenant's key.

Must not write anything, choose a key, or let a key or a text into an error, a log or a traceback.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2
import openai

from checks.redaction import redactor
from checks.wires import wires
from remediation import provider_response
from remediation.provider_errors import (
    KeyRefused,
    ProviderError,
    ProviderUnavailable,
    Stopped,
    UntrustworthyResponse,
    refusal,
    reveals,
    unsendable,
)
from remediation.provider_retry import RetryPolicy, TryFailed, retry_after, retrying

if TYPE_CHECKING:
    import ssl
    import threading
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray
    from pydantic import SecretStr

# Below WARNING the client and its transport log headers and bodies: keys and texts.
for _name in ("openai", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)

CONNECT_SECONDS = 4.0
"""For reaching the endpoint and for TLS: less than a signal leaves a run to end in order."""
BYTES_PER_NUMBER = 40
"""Upper bound of a number in a JSON list, pretty-printed; base64 takes 5.4 bytes."""
BYTES_PER_ITEM = 4_096
"""Upper bound of what surrounds the numbers of one item."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where vectors come from and of which shape they are.

    `dimensions` is what a vector must have; it is passed in the request only with
    `send_dimensions`. Raises ValueError for a base URL that is not plain http or https.
    """

    base_url: str
    model: str
    dimensions: int
    send_dimensions: bool = False

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.base_url)
            plain = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        except ValueError:
            plain = False
        if not plain:  # the URL itself is not shown: it may hold a password
            raise ValueError(
                "expected [provider] base_url as http://host/path or https://host/path, without "
                "user or password; found something else"
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Embedded:
    """Vectors aligned with the texts: float32, shape (texts, dimensions); and what they took.

    `tokens` were billed, answers that were thrown away included; without `tokens_known` some
    answer did not say, and `tokens` is too low. `requests` counts every try.
    """

    vectors: NDArray[np.float32]
    tokens: int
    tokens_known: bool
    requests: int


@cache
def _tls() -> ssl.SSLContext:
    """One TLS context for all clients: making one takes 65 ms, and there may be 10,000 tenants."""
    return httpx2.create_ssl_context()


def _keep_wire(request: httpx2.Request) -> None:
    """Have the socket that a request opens kept, so that a stop can cut it."""

    def opened(event: str, details: Mapping[str, Any]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            wires.keep(details["return_value"].get_extra_info("socket"))

    request.extensions["trace"] = opened


class Embedder:
    """Embeds texts with one key, over one client whose own retries are off. Safe across threads.

    The key is always the one given: OPENAI_ORG_ID, OPENAI_PROJECT_ID and an Authorization among
    OPENAI_CUSTOM_HEADERS, which the client would add by itself, belong to someone else's key.
    `timeout` is in seconds: for a silence, and for one whole answer; connecting has
    `CONNECT_SECONDS`. Raises KeyRefused for a key that no HTTP header can carry.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        api_key: SecretStr,
        *,
        stop: threading.Event,
        timeout: float = 60.0,
        retry: RetryPolicy | None = None,
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
        self._client = openai.OpenAI(
            api_key=key,
            base_url=endpoint.base_url,
            timeout=httpx2.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
            max_retries=0,
            default_headers={"Authorization": f"Bearer {key}"},
            # A redirect would carry the texts to a host that the settings do not name.
            http_client=openai.DefaultHttpxClient(
                follow_redirects=False,
                verify=_tls(),
                event_hooks={"request": [_keep_wire]},
            ),
        )

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

    def embed(self, texts: Sequence[str]) -> Embedded:
        """One vector per text, from one request that is repeated while that may help.

        Raises InputRejected, without a request, where a text is empty or cannot be encoded;
        a ProviderError of another kind as its name says; ValueError for no texts.
        """
        if not texts:
            raise ValueError("expected at least one text to embed, found none")
        for text in texts:
            if not_sendable := unsendable(text):
                raise not_sendable
        spent = _Spent()
        failure: ProviderError
        try:
            vectors = retrying(self._retry, self._stop)(self._try, texts, spent)
        except TryFailed as failed:
            failure = failed.error
            if failed.retry_after and failed.retry_after > self._retry.longest_retry_after:
                failure.reason += f"; it asks to wait {failed.retry_after:.0f} s"
                failure.args = (failure.reason,)
        except ProviderError as error:
            failure = error
        else:
            self.has_embedded = True
            return Embedded(
                vectors=vectors,
                tokens=spent.tokens,
                tokens_known=spent.tokens_known,
                requests=spent.requests,
            )
        failure.requests, failure.tokens = spent.requests, spent.tokens
        # Raised outside of the except clauses: no client error with its request, and the key in
        # its headers, stays reachable as the context.
        raise failure.with_traceback(None)

    def _try(self, texts: Sequence[str], spent: _Spent) -> NDArray[np.float32]:
        if self._stop.is_set():
            raise Stopped("stopped before the provider answered")
        spent.requests += 1
        body = self._answer(texts)
        try:
            response = provider_response.parse(body)
            tokens, known = provider_response.usage(response)
            spent.tokens += tokens
            spent.tokens_known &= known
            return provider_response.vectors(
                response,
                count=len(texts),
                dimensions=self.endpoint.dimensions,
                model=self.endpoint.model,
                may_quote=lambda words: not reveals(words, texts, self._api_key.get_secret_value()),
            )
        except UntrustworthyResponse as error:
            failed = TryFailed(error)
        raise failed

    def _answer(self, texts: Sequence[str]) -> bytes:
        failed: TryFailed | ProviderError
        try:
            return self._post(texts)
        except UntrustworthyResponse as error:
            failed = TryFailed(error)
        except openai.APIStatusError as error:
            failed = self._refused(error, texts)
        except (openai.APITimeoutError, TimeoutError):
            failed = TryFailed(
                ProviderUnavailable(f"provider gave no whole answer within {self._timeout:g} s")
            )
        except Exception as error:  # while the body is read, the client's transport speaks itself
            cause = type(error.__cause__ or error).__name__
            failed = TryFailed(ProviderUnavailable(f"connection to the provider failed ({cause})"))
        raise failed

    def _post(self, texts: Sequence[str]) -> bytes:
        """The body of a successful answer, read within the time and size that an answer takes."""
        deadline = time.monotonic() + self._timeout
        most = len(texts) * (self.endpoint.dimensions * BYTES_PER_NUMBER + BYTES_PER_ITEM)
        body = bytearray()
        with self._client.embeddings.with_streaming_response.create(
            input=list(texts),
            model=self.endpoint.model,
            encoding_format="base64",
            dimensions=self.endpoint.dimensions if self.endpoint.send_dimensions else openai.omit,
            extra_headers={"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit},
        ) as response:
            if response.status_code != 200:
                raise UntrustworthyResponse(
                    f"expected status 200 of the provider, found {response.status_code}"
                )
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > most:
                    raise UntrustworthyResponse(
                        f"expected at most {most} bytes for {len(texts)} texts, found more"
                    )
                if time.monotonic() > deadline:
                    raise TimeoutError
        return bytes(body)

    def _refused(
        self, error: openai.APIStatusError, texts: Sequence[str]
    ) -> TryFailed | ProviderError:
        refused, worth_another_try = refusal(
            error.status_code,
            error.response.content,
            texts=texts,
            key=self._api_key.get_secret_value(),
        )
        if worth_another_try:
            return TryFailed(refused, retry_after(error.response.headers))
        return refused


@dataclass(kw_only=True, slots=True)
class _Spent:
    requests: int = 0
    tokens: int = 0
    tokens_known: bool = True
