"""Says how soon a key may be used again, by the settings' limits and by what its provider says.

Knows neither keys in the clear nor HTTP clients. Never waits; says only how long to wait.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remediation.provider.answered_names import AnsweredNames
from remediation.provider.reachability import Reachability
from remediation.provider.request_size import RequestSizes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import SecretStr

WINDOW = 60.0
"""Seconds over which `requests_per_minute` and `tokens_per_minute` are counted."""
LOOK_AGAIN = 0.1
"""Seconds to wait where a request in flight must come back first, which nobody can foretell."""
LONGEST_RESET = 600.0
"""A reset further away, as of a limit by the day, is not waited for: the provider is asked, and its
refusal says what is the matter."""
_ROUNDING = 0.001
"""Added to each wait, so that it never ends just before the moment it was for."""

# Go's notation of a duration, in which OpenAI writes `x-ratelimit-reset-*` ("Rate limits" guide).
_DURATION = re.compile(
    r"(?:(?P<h>\d{1,6}(?:\.\d{1,9})?)h)?(?:(?P<m>\d{1,6}(?:\.\d{1,9})?)m(?!s))?"
    r"(?:(?P<s>\d{1,6}(?:\.\d{1,9})?)s)?(?:(?P<ms>\d{1,9}(?:\.\d{1,9})?)ms)?",
    re.ASCII,
)
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """A request that was let through, until `RateLimit.end` is told how it went."""

    tokens: int
    at: float


@dataclass(kw_only=True, slots=True)
class _Left:
    """What the provider says is left, less the requests in flight, until its reset."""

    remaining: int
    until: float
    limit: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ended:
    at: float
    tokens: int


class RateLimit:
    """The limits of one key, whoever uses it. Safe across threads.

    The settings' limits hold in every `window` seconds, on the provider's clock too: a request
    counts from before it is sent until a window after it was answered, whenever it arrived. Its
    tokens count as estimated, or as billed where that is more. After a try without a usable answer
    nobody may send before its wait is over, and then half as many at a time as before, one more
    after each success.
    """

    def __init__(
        self,
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        window: float = WINDOW,
    ) -> None:
        self._most_requests = requests_per_minute
        self._most_tokens = tokens_per_minute
        self._clock = clock
        self._window = window
        self._lock = threading.Lock()
        self._in_flight = 0
        self._tokens_in_flight = 0
        self._ended: deque[_Ended] = deque()
        self._tokens_ended = 0
        self._left: dict[str, _Left] = {}
        self._held_until = 0.0
        self._most_at_once: int | None = None
        self._slowed_at = -math.inf

    def begin(self, tokens: int) -> Sent | float:
        """Let a request through, or say in how many seconds it is worth asking again."""
        with self._lock:
            seconds = self._seconds_to_wait(tokens)
            if seconds > 0.0:
                return seconds
            self._in_flight += 1
            self._tokens_in_flight += tokens
            for kind, needed in (("requests", 1), ("tokens", tokens)):
                if kind in self._left:
                    self._left[kind].remaining -= needed
            return Sent(tokens=tokens, at=self._clock())

    def end(
        self,
        sent: Sent,
        *,
        headers: Mapping[str, str] | None = None,
        billed: int = 0,
        hold: float | None = None,
    ) -> None:
        """Take in how a request went. `hold`: seconds without requests after an unusable answer."""
        with self._lock:
            now = self._clock()
            if hold is not None:
                self._held_until = max(self._held_until, now + hold)
                if sent.at > self._slowed_at:  # once for all requests that were in flight together
                    self._most_at_once = max(1, self._in_flight // 2)
                    self._slowed_at = now
            elif self._most_at_once is not None:
                self._most_at_once += 1
            self._in_flight -= 1
            self._tokens_in_flight -= sent.tokens
            if self._most_requests is not None or self._most_tokens is not None:
                self._ended.append(_Ended(at=now, tokens=max(sent.tokens, billed)))
                self._tokens_ended += max(sent.tokens, billed)
            if headers is not None:
                self._learn(headers, now)

    def seconds_to_wait(self, tokens: int) -> float:
        """Seconds until a request of so many tokens may be let through; 0.0: now."""
        with self._lock:
            return self._seconds_to_wait(tokens)

    @property
    def in_use(self) -> bool:
        """Whether a request that was let through has not ended yet."""
        with self._lock:
            return self._in_flight > 0

    @property
    def held(self) -> float:
        """Seconds for which the provider wants no request; 0.0: it takes them now."""
        with self._lock:
            return max(0.0, self._held_until - self._clock())

    def too_large(self, tokens: int, *, alone: bool) -> str | None:
        """Why a request of so many tokens is never sent, or None.

        The settings bind a text that stands `alone` too; the provider's limit, in its own count of
        tokens, only tells that a larger request should be halved.
        """
        if self._most_tokens is not None and tokens > self._most_tokens:
            return (
                f"counted at {tokens:,} tokens, more than [repair] tokens_per_minute ="
                f" {self._most_tokens:,} allows"
            )
        with self._lock:
            left = self._left.get("tokens")
            limit = None if left is None else left.limit
        if not alone and limit is not None and tokens > limit:
            return f"counted at {tokens:,} tokens, more than the key's limit of {limit:,}"
        return None

    def _seconds_to_wait(self, tokens: int) -> float:
        now = self._clock()
        waits = [self._held_until - now, self._until_window_has_room(now, tokens)]
        if self._most_at_once is not None and self._in_flight >= self._most_at_once:
            waits.append(LOOK_AGAIN)
        for kind, needed in (("requests", 1), ("tokens", tokens)):
            left = self._left.get(kind)
            if left is None:
                continue
            if left.until <= now:
                del self._left[kind]
            elif left.remaining < (needed if left.limit is None else min(needed, left.limit)):
                waits.append(left.until - now)
        longest = max(waits)
        return longest + _ROUNDING if longest > 0.0 else 0.0

    def _until_window_has_room(self, now: float, tokens: int) -> float:
        while self._ended and self._ended[0].at + self._window <= now:
            self._tokens_ended -= self._ended.popleft().tokens
        wait = 0.0
        if self._most_requests is not None:
            over = self._in_flight + len(self._ended) + 1 - self._most_requests
            if over > len(self._ended):
                wait = LOOK_AGAIN
            elif over > 0:
                wait = self._ended[over - 1].at + self._window - now
        if self._most_tokens is not None:
            over = self._tokens_in_flight + self._tokens_ended + tokens - self._most_tokens
            if over > self._tokens_ended:
                return max(wait, LOOK_AGAIN)
            for ended in self._ended:
                if over <= 0:
                    break
                over -= ended.tokens
                wait = max(wait, ended.at + self._window - now)
        return wait

    def _learn(self, headers: Mapping[str, str], now: float) -> None:
        for kind, in_flight in (("requests", self._in_flight), ("tokens", self._tokens_in_flight)):
            remaining = _count(headers.get(f"x-ratelimit-remaining-{kind}"))
            reset = reset_seconds(headers.get(f"x-ratelimit-reset-{kind}"))
            if remaining is None or reset is None or reset > LONGEST_RESET:
                continue
            self._left[kind] = _Left(
                # The provider may have counted what is in flight: assume rather less than is left.
                remaining=remaining - in_flight,
                until=now + reset,
                limit=_count(headers.get(f"x-ratelimit-limit-{kind}")),
            )


@dataclass(kw_only=True, slots=True)
class RateLimits:
    """Every key's limits, for a whole run: repair, probe and canary send with the same keys.

    And what the tries of all of them have shown of each endpoint.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    clock: Callable[[], float] = time.monotonic
    window: float = WINDOW
    sizes: RequestSizes = field(default_factory=RequestSizes)
    """What one request may hold, by endpoint."""
    names: AnsweredNames = field(default_factory=AnsweredNames)
    """What an endpoint may call its model."""
    _limits: dict[SecretStr, RateLimit] = field(default_factory=dict, repr=False)
    _reached: dict[str, Reachability] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def of(self, key: SecretStr) -> RateLimit:
        """The one limit of a key. Tenants with the same key share it."""
        with self._lock:
            if key not in self._limits:
                self._limits[key] = self._new(key)
            return self._limits[key]

    def reachability(self, base_url: str) -> Reachability:
        """Whether anybody is there. Tenants of the same endpoint share it."""
        with self._lock:
            return self._reached.setdefault(base_url, Reachability())

    def _new(self, key: SecretStr) -> RateLimit:  # noqa: ARG002 - for limits that others share
        return RateLimit(
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            clock=self.clock,
            window=self.window,
        )


def reset_seconds(value: str | None) -> float | None:
    """Seconds of an `x-ratelimit-reset-*` such as "1s", "6m0s", "20ms"; None if unreadable."""
    written = _DURATION.fullmatch(value.strip()) if value else None
    if written is None or not any(written.groups()):
        return None
    return sum(float(written[unit]) * size for unit, size in _SECONDS.items() if written[unit])


def _count(value: str | None) -> int | None:
    return int(value) if value and re.fullmatch(r"[0-9]{1,15}", value.strip()) else None
