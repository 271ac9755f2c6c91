"""One embedder per key and endpoint, made when first needed; a bounded number is kept open.

A tenant's texts go to the embedder of that tenant's key and endpoint, and to no other.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from remediation.provider.embedder import Embedder
from remediation.provider.errors import KeyRefused
from remediation.provider.keys import MissingKey
from remediation.provider.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import SecretStr

    from remediation.provider.endpoint import Endpoint
    from remediation.provider.keys import Key, KeyRing
    from remediation.provider.rate_limits import RateLimits
    from remediation.provider.tokens import TokenCounter

OPEN_EMBEDDERS = 64
"""Idle embedders kept open; each holds a connection pool, and there may be 10,000 tenants."""


class Embedders:
    """Lends embedders for one table. Safe across threads.

    `endpoint` is that of the settings; a tenant's own takes its place. `models` are the declared
    models of single tenants.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        keys: KeyRing,
        *,
        stop: threading.Event,
        limits: RateLimits,
        counter: TokenCounter,
        models: Mapping[str, str],
        retry: RetryPolicy | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.keys = keys
        self._stop = stop
        self._limits = limits
        self._counter = counter
        self._models = models
        self._retry = retry or RetryPolicy()
        self._lock = threading.Lock()
        self._open: OrderedDict[_Use, Embedder] = OrderedDict()
        self._lent: dict[_Use, int] = {}

    @contextmanager
    def lend(self, tenant: str | None) -> Iterator[Embedder]:
        """The tenant's embedder for the `with` block. Raises `KeyRefused` where it has no key."""
        key = self.keys.find(tenant)
        if isinstance(key, MissingKey):
            raise KeyRefused(key.reason)
        use = _Use(endpoint=self._endpoint_of(tenant, key), secret=key.secret)
        embedder = self._take(use)
        try:
            yield embedder
        finally:
            self._give_back(use)

    def seconds_to_wait(self, tenant: str | None, tokens: int) -> float:
        """Seconds until a request of so many tokens may be sent with the tenant's key.

        0.0 also where waiting is no use: no key, or a provider that wants to hear nothing for long.
        """
        key = self.keys.find(tenant)
        if isinstance(key, MissingKey):
            return 0.0
        limit = self._limits.of(key.secret)
        if limit.held > self._retry.longest_hold or limit.too_large(tokens, alone=False):
            return 0.0
        return limit.seconds_to_wait(tokens)

    def silent_for(self, tenant: str | None, tokens: int) -> float:
        """`seconds_to_wait`, where nothing is on its way with the tenant's key; else 0.0."""
        key = self.keys.find(tenant)
        if isinstance(key, MissingKey) or self._limits.of(key.secret).in_use:
            return 0.0
        return self.seconds_to_wait(tenant, tokens)

    def _endpoint_of(self, tenant: str | None, key: Key) -> Endpoint:
        declared = self._models.get(tenant or "", self.endpoint.model)
        endpoint = replace(self.endpoint, model=declared, declared=declared)
        return endpoint if key.own is None else key.own.in_place_of(endpoint)

    def _take(self, use: _Use) -> Embedder:
        with self._lock:
            if use not in self._open:
                self._open[use] = Embedder(
                    use.endpoint,
                    use.secret,
                    stop=self._stop,
                    retry=self._retry,
                    limit=self._limits.of(use.secret),
                    counter=self._counter,
                )
            self._open.move_to_end(use)
            self._lent[use] = self._lent.get(use, 0) + 1
            return self._open[use]

    def _give_back(self, use: _Use) -> None:
        with self._lock:
            self._lent[use] -= 1
            idle = [each for each in self._open if not self._lent.get(each)]
            surplus = [
                self._open.pop(each) for each in idle[: max(0, len(self._open) - OPEN_EMBEDDERS)]
            ]
        for embedder in surplus:
            embedder.close()

    def stop(self) -> None:
        """Try nothing again, and end every wait between two tries."""
        self._stop.set()

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            embedders = list(self._open.values())
            self._open.clear()
        for embedder in embedders:
            embedder.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Use:
    """What two tenants must have in common to share a client."""

    endpoint: Endpoint
    secret: SecretStr
