"""Adds up what asking a provider took: requests and tokens, and how much of that it has said."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What a number of requests took. `Usage()` is nothing at all.

    `requests` counts every try, `unanswered` those of them without a usable answer. `tokens` are
    those that answers said were billed, answers that were thrown away included; `unsaid` is what
    those took, by our own count, that did not say.
    """

    requests: int = 0
    unanswered: int = 0
    tokens: int = 0
    unsaid: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            requests=self.requests + other.requests,
            unanswered=self.unanswered + other.unanswered,
            tokens=self.tokens + other.tokens,
            unsaid=self.unsaid + other.unsaid,
        )

    @property
    def tokens_are_known(self) -> bool:
        """Whether every answer said what it took: `tokens` is then what was billed."""
        return self.unsaid == 0

    @property
    def reckoned(self) -> int:
        """Tokens that count against a cap: what was not said counts as we counted it."""
        return self.tokens + self.unsaid


NOTHING = Usage()
"""What work took that asked nobody."""
