"""The tries of one request so far. A value only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Tries:
    """The tries of one request that came to nothing so far."""

    failed: int = 0
    untrustworthy: int = 0
    """Those of them that ended in an answer that cannot be trusted."""

    def and_one(self, *, untrustworthy: bool) -> Tries:
        """With one more."""
        return Tries(failed=self.failed + 1, untrustworthy=self.untrustworthy + untrustworthy)
