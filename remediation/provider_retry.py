"""When and how long to wait before a request is tried again: the only retry layer there is.

Must not know HTTP clients or vectors; it sees failed tries and waits.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import tenacity

from remediation.provider_errors import ProviderError, UntrustworthyResponse

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """Tries and waits, in seconds. Delays double from `base_delay` with full jitter.

    `untrustworthy_attempts` of the `attempts` may end in an answer that cannot be trusted. A
    Retry-After beyond `longest_retry_after` ends the tries at once: the provider is not back soon.
    """

    attempts: int = 6
    untrustworthy_attempts: int = 3
    base_delay: float = 0.5
    longest_delay: float = 60.0
    longest_retry_after: float = 120.0


class TryFailed(Exception):  # noqa: N818 - never leaves the retry loop
    """One try that may be repeated: what it came to, and the wait in seconds the provider asks."""

    def __init__(self, error: ProviderError, retry_after: float | None = None) -> None:
        super().__init__(error.reason)
        self.error = error
        self.retry_after = retry_after


def retrying(policy: RetryPolicy, stop: threading.Event) -> tenacity.Retrying:
    """Tenacity's loop under the policy; a wait ends at once when `stop` is set.

    Repeats on TryFailed alone and raises the last one when the tries are used up. The caller
    looks at `stop` before each try.
    """
    untrustworthy = 0

    def exhausted(state: tenacity.RetryCallState) -> bool:
        nonlocal untrustworthy
        failed = _failure(state)
        untrustworthy += isinstance(failed.error, UntrustworthyResponse)
        return (
            state.attempt_number >= policy.attempts
            or untrustworthy >= policy.untrustworthy_attempts
            or (failed.retry_after or 0.0) > policy.longest_retry_after
        )

    backoff = tenacity.wait_random_exponential(
        multiplier=policy.base_delay, max=policy.longest_delay
    )

    def wait(state: tenacity.RetryCallState) -> float:
        asked = _failure(state).retry_after
        if asked is None:
            return backoff(state)
        # Not before it was asked, and not all at the same moment after it.
        return asked + random.uniform(0.0, policy.base_delay)  # noqa: S311

    return tenacity.Retrying(
        stop=exhausted,
        wait=wait,
        retry=tenacity.retry_if_exception_type(TryFailed),
        sleep=tenacity.sleep_using_event(stop),
        reraise=True,
    )


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that `retry-after-ms` or `Retry-After` asks for, None where neither says.

    `Retry-After` is a number of seconds or an HTTP date (RFC 9110, section 10.2.3); the other is
    OpenAI's, finer. A moment that has passed is 0; what cannot be read is ignored.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:  # "-0000": UTC without saying where
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return None if math.isnan(number) else max(0.0, number)


def _failure(state: tenacity.RetryCallState) -> TryFailed:
    failed = state.outcome.exception() if state.outcome else None
    if not isinstance(failed, TryFailed):
        raise TypeError(f"expected a failed try, found {failed!r}")
    return failed
