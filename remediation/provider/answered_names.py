"""Keeps the other name under which an endpoint answers, once its vectors have proven its model.

A gateway is asked for an alias and names the model behind it, or the reverse. Asks nothing.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remediation.provider.endpoint import Endpoint
    from remediation.provider.errors import ProviderError


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherName:
    """The name of a model in an answer that may be of another model than the one asked for."""

    name: str
    shown: str
    """The same for people: what may be a text in disguise is not repeated."""
    error: ProviderError
    """What the answer is refused with, unless vectors have proven the name."""
    again: bool
    """Whether another try may help."""


@dataclass(kw_only=True, slots=True)
class AnsweredNames:
    """Every endpoint's, for a whole run: one name for each. Safe across threads."""

    proven: dict[str, str] = field(default_factory=dict)
    """By `endpoint_hash`."""
    _untold: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def allow(self, other: OtherName, endpoint: Endpoint) -> bool:
        """Whether an answer of this endpoint may carry the name."""
        return bool(self.proven) and self.proven.get(endpoint_hash(endpoint)) == other.name

    def prove(self, endpoint: Endpoint, heard: Mapping[str, str]) -> None:
        """Allow the one name that vectors came under which agree with those that are stored.

        `heard` has the names as shown; of several none is proven.
        """
        with self._lock:
            if len(heard) != 1 or endpoint_hash(endpoint) in self.proven:
                return
            ((name, shown),) = heard.items()
            self.proven[endpoint_hash(endpoint)] = name
            self._untold.append(
                f"{endpoint.host} answers as {shown} where {endpoint.model!r} is asked for;"
                " healthy rows, embedded again, agree with what is stored, so this name is taken"
                " for the rest of the run, and no other"
            )

    def untold(self) -> list[str]:
        """What was proven and not told yet, for people."""
        with self._lock:
            told, self._untold = self._untold, []
            return told


def endpoint_hash(endpoint: Endpoint) -> str:
    """Tells an endpoint and its model from others; workers are told of it, and of no URL."""
    return hashlib.sha256(f"{endpoint.base_url}\n{endpoint.model}".encode()).hexdigest()
