"""One embedder per tenant and endpoint, made when first needed; a bounded number is kept open.

A tenant's texts go to the embedder that holds that tenant's key, and to no other.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from remediation.keys import MissingKey
from remediation.provider import Embedder
from remediation.provider_errors import KeyRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remediation.keys import KeyRing
    from remediation.provider import Endpoint
    from remediation.provider_retry import RetryPolicy

OPEN_EMBEDDERS = 64
"""Idle embedders kept open; each holds a connection pool, and there may be 10,000 tenants."""


class Embedders:
    """Lends embedders for one endpoint. Safe across threads."""

    def __init__(
        self,
        endpoint: Endpoint,
        keys: KeyRing,
        *,
        stop: threading.Event,
        retry: RetryPolicy | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.keys = keys
        self._stop = stop
        self._retry = retry
        self._lock = threading.Lock()
        self._open: OrderedDict[str | None, Embedder] = OrderedDict()
        self._lent: dict[str | None, int] = {}

    @contextmanager
    def lend(self, tenant: str | None) -> Iterator[Embedder]:
        """The tenant's embedder for the `with` block. Raises `KeyRefused` where it has no key."""
        embedder = self._take(tenant)
        try:
            yield embedder
        finally:
            self._give_back(tenant)

    def _take(self, tenant: str | None) -> Embedder:
        key = self.keys.find(tenant)
        if isinstance(key, MissingKey):
            raise KeyRefused(key.reason)
        with self._lock:
            if tenant not in self._open:
                self._open[tenant] = Embedder(
                    self.endpoint, key.secret, stop=self._stop, retry=self._retry
                )
            self._open.move_to_end(tenant)
            self._lent[tenant] = self._lent.get(tenant, 0) + 1
            return self._open[tenant]

    def _give_back(self, tenant: str | None) -> None:
        with self._lock:
            self._lent[tenant] -= 1
            idle = [name for name in self._open if not self._lent.get(name)]
            surplus = [
                self._open.pop(name) for name in idle[: max(0, len(self._open) - OPEN_EMBEDDERS)]
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
