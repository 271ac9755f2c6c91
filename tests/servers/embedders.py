"""Embedders that ask a `ProviderServer`, and what they should answer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import SecretStr

from remediation.provider.embedder import Embedder
from remediation.provider.endpoint import Endpoint
from remediation.provider.errors import ProviderError
from remediation.provider.openai_compatible.embeddings import OpenAIEmbeddings
from remediation.provider.retry import RetryPolicy
from tests.servers.provider_server import MODEL, vector_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    from remediation.provider.rate_limits import RateLimit
    from remediation.provider.reachability import Reachability
    from tests.servers.provider_server import ProviderServer

KEY = "sk-acme-Zq7vT2mXw9"
TEXTS = ("the first text", "the second text", "the third text")
SOON = RetryPolicy(base_delay=0.001)
"""As in production, but without its waits."""


class LoneEmbedder(Embedder):
    """An embedder whose provider is nobody else's: closed with it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.provider.close()


def embedder(
    server: ProviderServer,
    *,
    stop: threading.Event | None = None,
    key: str = KEY,
    timeout: float = 30.0,
    retry: RetryPolicy = SOON,
    limit: RateLimit | None = None,
    reachability: Reachability | None = None,
    **endpoint: Any,
) -> LoneEmbedder:
    """An embedder for that server; `endpoint` overrides fields of its Endpoint."""
    shape = {"base_url": server.base_url, "model": MODEL, "dimensions": server.dimensions}
    return LoneEmbedder(
        OpenAIEmbeddings(Endpoint(**{**shape, **endpoint}), timeout=timeout),
        SecretStr(key),
        stop=stop or threading.Event(),
        retry=retry,
        limit=limit,
        reachability=reachability,
    )


def failure(asked: LoneEmbedder, texts: Sequence[str] = TEXTS) -> ProviderError:
    """What the embedder raises for the texts."""
    with asked, pytest.raises(ProviderError) as caught:
        asked.embed(texts)
    return caught.value


def expected(texts: Sequence[str]) -> NDArray[np.float32]:
    """What a healthy server gives for the texts: shape (texts, 8)."""
    return np.stack([vector_of(text) for text in texts])
