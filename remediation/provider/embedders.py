"""Lends an embedder for each key, over the one provider of its endpoint; keeps some endpoints open.

A tenant's texts go to the embedder of that tenant's key and endpoint, and to no other.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from remediation.provider.embedder import Embedder
from remediation.provider.errors import KeyRefused
from remediation.provider.keys import MissingKey
from remediation.provider.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic import SecretStr

    from remediation.provider.endpoint import Endpoint
    from remediation.provider.keys import Key, KeyRing
    from remediation.provider.protocol import EmbeddingProvider
    from remediation.provider.rate_limits import RateLimits
    from remediation.provider.tokens import TokenCounter

OPEN_ENDPOINTS = 64
"""Endpoints kept open while idle; each has connections, and 10,000 tenants may have their own."""


class Embedders:
    """Lends embedders for one table. Safe across threads.

    `endpoint` is that of the settings; a tenant's own takes its place. `provider_at` opens the
    provider of an endpoint. `models` are the declared models of single tenants.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        keys: KeyRing,
        *,
        provider_at: Callable[[Endpoint], EmbeddingProvider],
        stop: threading.Event,
        limits: RateLimits,
        counter: TokenCounter,
        models: Mapping[str, str],
        retry: RetryPolicy | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.keys = keys
        self._provider_at = provider_at
        self._stop = stop
        self._limits = limits
        self._counter = counter
        self._models = models
        self._retry = retry or RetryPolicy()
        self._lock = threading.Lock()
        self._open: OrderedDict[Endpoint, _Opened] = OrderedDict()
        """Those that were used last stand at the end."""

    @contextmanager
    def lend(self, tenant: str | None) -> Iterator[Embedder]:
        """The tenant's embedder for the `with` block. Raises `KeyRefused` where it has no key."""
        key = self.keys.find(tenant)
        if isinstance(key, MissingKey):
            raise KeyRefused(key.reason)
        opened = self._take(self._endpoint_of(tenant, key))
        try:
            yield self._embedder(opened, key.secret)
        finally:
            self._give_back(opened)

    def seconds_to_wait(self, tenant: str | None, tokens: int) -> float:
        """Seconds until a request of so many tokens may be sent with the tenant's key.

        Also 0.0 where waiting is no use: there is no key, it is refused, nobody is there, or the
        provider asks for too long a wait.
        """
        key = self.keys.find(tenant)
        if isinstance(key, MissingKey):
            return 0.0
        limit = self._limits.of(key.secret)
        endpoint = self._endpoint_of(tenant, key)
        if self._limits.reachability(endpoint.base_url).dead is not None:
            return 0.0
        if self._is_refused(endpoint, key.secret):
            return 0.0
        if limit.held > self._retry.longest_hold or limit.too_large(tokens, alone=False):
            return 0.0
        return limit.seconds_to_wait(tokens)

    def silent_for(self, tenant: str | None, tokens: int) -> float:
        """`seconds_to_wait`, or 0.0 while a request with the tenant's key is in flight."""
        key = self.keys.find(tenant)
        if isinstance(key, MissingKey) or self._limits.of(key.secret).in_use:
            return 0.0
        return self.seconds_to_wait(tenant, tokens)

    def own(self, tenant: str | None) -> bool:
        """Whether a tenant has an endpoint or a model of its own."""
        key = self.keys.find(tenant)
        if isinstance(key, MissingKey):
            return False
        asked, usual = self._endpoint_of(tenant, key), self.endpoint
        return (asked.base_url, asked.model) != (usual.base_url, usual.model)

    def _endpoint_of(self, tenant: str | None, key: Key) -> Endpoint:
        declared = self._models.get(tenant or "", self.endpoint.model)
        endpoint = replace(self.endpoint, model=declared, declared=declared)
        return endpoint if key.own is None else key.own.in_place_of(endpoint)

    def _is_refused(self, endpoint: Endpoint, secret: SecretStr) -> bool:
        """Whether the endpoint refused the key, as asked for this tenant or another."""
        with self._lock:
            opened = self._open.get(endpoint)
            embedder = None if opened is None else opened.embedders.get(secret)
            return embedder is not None and embedder.refused

    def _take(self, endpoint: Endpoint) -> _Opened:
        with self._lock:
            if endpoint not in self._open:
                self._open[endpoint] = _Opened(provider=self._provider_at(endpoint))
            self._open.move_to_end(endpoint)
            self._open[endpoint].lent += 1
            return self._open[endpoint]

    def _embedder(self, opened: _Opened, secret: SecretStr) -> Embedder:
        with self._lock:
            if secret not in opened.embedders:
                opened.embedders[secret] = Embedder(
                    opened.provider,
                    secret,
                    stop=self._stop,
                    retry=self._retry,
                    limit=self._limits.of(secret),
                    counter=self._counter,
                    size=self._limits.sizes.of(opened.provider.endpoint),
                    reachability=self._limits.reachability(opened.provider.endpoint.base_url),
                    names=self._limits.names,
                )
            return opened.embedders[secret]

    def _give_back(self, opened: _Opened) -> None:
        with self._lock:
            opened.lent -= 1
            idle = [endpoint for endpoint, each in self._open.items() if not each.lent]
            surplus = [
                self._open.pop(endpoint)
                for endpoint in idle[: max(0, len(self._open) - OPEN_ENDPOINTS)]
            ]
        for each in surplus:
            each.provider.close()

    def stop(self) -> None:
        """Prevent further tries, and end every wait between two tries."""
        self._stop.set()

    def close(self) -> None:
        """Close every connection; what is asked for over it fails."""
        with self._lock:
            opened = list(self._open.values())
            self._open.clear()
        for each in opened:
            each.provider.close()


@dataclass(kw_only=True, slots=True)
class _Opened:
    """An endpoint's provider, and an embedder for each key that was used there."""

    provider: EmbeddingProvider
    embedders: dict[SecretStr, Embedder] = field(default_factory=dict)
    lent: int = 0
