"""Decides whether a request is tried again and how long after: the only retry layer there is.

Must not know HTTP clients or vectors, and must never wait; it sees failed tries and counts.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remediation.provider.errors import Tries

LONGEST_ASKED = 31_536_000.0
"""Seconds, a year: a provider that asks for more is not understood to ask for more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """Tries and waits, in seconds. Delays double from `base_delay` with full jitter.

    `untrustworthy_attempts` of the `attempts` may end in an answer that cannot be trusted, and
    `slow_attempts` in none within the time that one may take. A
    Retry-After beyond `longest_retry_after` ends the tries at once: the provider is not back soon.
    """

    attempts: int = 6
    untrustworthy_attempts: int = 3
    slow_attempts: int = 2
    base_delay: float = 0.5
    longest_delay: float = 60.0
    longest_retry_after: float = 120.0

    @property
    def longest_hold(self) -> float:
        """Seconds of waiting beyond which a key is given up."""
        return self.longest_retry_after + self.base_delay

    def exhausted(self, tries: Tries, retry_after: float | None) -> bool:
        """Whether there is no further try."""
        return (
            tries.failed >= self.attempts
            or tries.untrustworthy >= self.untrustworthy_attempts
            or tries.slow >= self.slow_attempts
            or (retry_after or 0.0) > self.longest_retry_after
        )

    def delay(self, tries: Tries, retry_after: float | None) -> float:
        """Seconds for which nothing is sent with the key after a try that failed."""
        if retry_after is not None:
            # Not before that moment, and not all requests at once after it.
            return retry_after + random.uniform(0.0, self.base_delay)  # noqa: S311
        doubled = self.base_delay * 2.0 ** (tries.failed - 1)
        return random.uniform(0.0, min(self.longest_delay, doubled))  # noqa: S311


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that `retry-after-ms` or `Retry-After` asks for, None where neither says.

    `Retry-After` is a number of seconds or an HTTP date (RFC 9110, section 10.2.3), which is held
    against the answer's own `Date`; the other is OpenAI's, finer. A moment that has passed is 0;
    what cannot be read is ignored.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    moment = _moment(value)
    if moment is None:
        return None
    # By the clock that the answer was written by, where it says so: ours may be wrong, or jump.
    since = _moment(headers.get("date")) or now or datetime.now(UTC)
    return _within_reason((moment - since).total_seconds())


def _moment(value: str | None) -> datetime | None:
    """An HTTP date; None for what is no date, or one beyond what a date can be."""
    try:
        moment = parsedate_to_datetime(value or "")
        if moment.tzinfo is None:  # "-0000": UTC without saying where
            moment = moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return None if math.isnan(number) else _within_reason(number)


def _within_reason(seconds: float) -> float:
    return min(max(0.0, seconds), LONGEST_ASKED)
