"""Tells an endpoint that was never reached from one that fails now and then.

A wrong base_url is the same for every tenant: the tries of all of them together prove it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from remediation.provider.errors import Unreachable

if TYPE_CHECKING:
    from remediation.provider.errors import ProviderError

TRIES = 12
"""Tries without a connection, of all keys together and none with one, that prove an endpoint dead:
twice those of one request."""
LONGEST_HOLD = 1.0
"""Seconds between two tries of a key at an endpoint that was never reached."""


class Reachability:
    """Of one endpoint, for a whole run. Safe across threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reached = False
        self._vain = 0
        self._reason = ""
        self._dead: str | None = None

    def told(self, failure: ProviderError | None) -> None:
        """Learn from a try: any answer, a refusal too, proves that somebody is there."""
        with self._lock:
            if isinstance(failure, Unreachable):
                self._vain += 1
                self._reason = failure.reason
                if not self._reached and self._vain == TRIES:
                    self._dead = self._words()
            else:
                self._reached = True

    @property
    def unknown(self) -> bool:
        """Whether nobody has answered yet, though somebody was asked."""
        return not self._reached and self._vain > 0

    @property
    def dead(self) -> Unreachable | None:
        """Why nothing more is sent there, or None."""
        return None if self._reached or self._dead is None else Unreachable(self._dead)

    def given_up(self, failure: Unreachable) -> Unreachable:
        """The failure of a request that is not tried again, with what all tries have shown."""
        with self._lock:
            return failure if self._reached else Unreachable(self._dead or self._words())

    def _words(self) -> str:
        return f"{self._reason}, {self._vain} of {self._vain} tries; check base_url"
