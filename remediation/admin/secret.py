"""Knows the admin's secret, and who sends wrong ones too often. Shows no secret."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from checks.errors import IntegrityError
from checks.redaction import redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HEADER = "x-admin-secret"
VARIABLES = ("ADMIN_SECRET", "AUTH_SECRET")
"""The first that is set is the secret."""
WINDOW_SECONDS = 60.0
WRONG_IN_WINDOW = 20
"""Wrong secrets of one address that are answered with 401; those after them with 429."""
ADDRESSES_KEPT = 4096


class NoSecretError(IntegrityError):
    """No secret is set: the service would be open to everyone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdminSecret:
    """Compares in constant time, and by bytes, as a header may hold any."""

    _digest: bytes = field(repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> AdminSecret:
        """Space around it is no part of it, as in a header. Raises `NoSecretError`."""
        values = (environment.get(name, "").strip() for name in VARIABLES)
        secret = next(filter(None, values), None)
        if secret is None:
            raise NoSecretError(
                f"expected a secret in the environment variable {VARIABLES[0]}, or else"
                f" {VARIABLES[1]}, found neither or both empty: without one everyone could start a"
                " repair"
            )
        redactor.add(secret)
        return cls(_digest=_digest(secret.encode("utf-8", "surrogateescape")))

    def admits(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Whether the headers of a request, with names in small letters, hold it exactly once."""
        given = _given(headers)
        # Digests are of one length: how long the secret is takes no time either.
        return len(given) == 1 and hmac.compare_digest(_digest(given[0].strip()), self._digest)


def guesses(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether a request tries a secret at all; one without any learns nothing by repetition."""
    return bool(_given(headers))


def _given(headers: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    return [value for name, value in headers if name == HEADER.encode()]


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


@dataclass(kw_only=True, slots=True)
class WrongSecrets:
    """Counts wrong secrets by address, in bounded memory. Used by one thread.

    Decides how a wrong secret is answered; a right one is never asked about, so that a flood of
    wrong ones cannot lock it out.
    """

    clock: Callable[[], float] = time.monotonic
    _windows: OrderedDict[str, tuple[float, int]] = field(default_factory=OrderedDict)
    """When each address's window ends, and how many it has sent in it; the oldest first."""

    def __len__(self) -> int:
        return len(self._windows)

    def retry_after(self, address: str) -> int | None:
        """Enter a wrong secret. Seconds until the next may be tried; None where it may now."""
        now, place = self.clock(), _network(address)
        ends, sent = self._windows.get(place, (0.0, 0))
        if ends <= now:
            self._windows.pop(place, None)
            ends, sent = now + WINDOW_SECONDS, 0
        self._windows[place] = (ends, sent + 1)
        while len(self._windows) > ADDRESSES_KEPT:
            self._windows.popitem(last=False)
        return max(1, math.ceil(ends - now)) if sent >= WRONG_IN_WINDOW else None


def _network(address: str) -> str:
    """The address; of IPv6 its network of 64 bits, which one machine has to itself."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
