"""Adds up what a provider was asked and billed: requests, and tokens as far as it says."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """The usage of a number of requests. `Usage()` is none.

    `requests` counts every try, `unanswered` the tries without a usable answer. `tokens` are those
    that answers said were billed, discarded answers included; `unsaid` are those of the answers
    that did not say, or said more than can be, by our own count. `seconds` are those of all tries
    together, however many went at a time; they play no part in a comparison.
    """

    requests: int = 0
    unanswered: int = 0
    tokens: int = 0
    unsaid: int = 0
    seconds: float = field(default=0.0, compare=False)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            requests=self.requests + other.requests,
            unanswered=self.unanswered + other.unanswered,
            tokens=self.tokens + other.tokens,
            unsaid=self.unsaid + other.unsaid,
            seconds=self.seconds + other.seconds,
        )

    def __sub__(self, earlier: Usage) -> Usage:
        """What was asked since then."""
        return Usage(
            requests=self.requests - earlier.requests,
            unanswered=self.unanswered - earlier.unanswered,
            tokens=self.tokens - earlier.tokens,
            unsaid=self.unsaid - earlier.unsaid,
            seconds=self.seconds - earlier.seconds,
        )

    @property
    def tokens_are_known(self) -> bool:
        """Whether every answer said what was billed: then `tokens` is exactly that."""
        return self.unsaid == 0

    @property
    def reckoned(self) -> int:
        """Tokens that count against a cap: billed ones, and our count where answers did not say."""
        return self.tokens + self.unsaid


NOTHING = Usage()
"""What work took that asked nobody."""
