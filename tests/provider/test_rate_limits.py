"""When a key may be used again, by a clock that the tests set."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr

from remediation.provider.rate_limits import LOOK_AGAIN, RateLimit, RateLimits, Sent, reset_seconds


@dataclass(kw_only=True)
class Clock:
    """A clock that stands still until it is moved."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(kw_only=True)
class Crowd:
    """Threads that use one key: each request arrives and is answered at some later moment."""

    limit: RateLimit
    clock: Clock
    chance: random.Random
    arrived: list[tuple[float, int]] = field(default_factory=list)
    flying: list[tuple[float, Sent, int]] = field(default_factory=list)

    def send(self, tokens: int, billed: int) -> None:
        """Wait for the key's turn as a thread does, and send."""
        for _ in range(10_000):
            sent = self.limit.begin(tokens)
            if isinstance(sent, Sent):
                break
            self.move(sent)
        else:
            pytest.fail("the key's turn never came")
        latency = self.chance.uniform(0.0, 4.0)
        self.arrived.append((self.clock.now + self.chance.uniform(0.0, latency), billed))
        self.flying.append((self.clock.now + latency, sent, billed))

    def move(self, seconds: float) -> None:
        """Let time pass, and answers come when they are due."""
        until = self.clock.now + seconds
        for due in sorted(self.flying, key=lambda each: each[0]):
            if due[0] <= until:
                self.clock.now = max(self.clock.now, due[0])
                self.limit.end(due[1], billed=due[2])
                self.flying.remove(due)
        self.clock.now = until


def most_in_a_window(arrived: list[tuple[float, int]], seconds: float) -> tuple[int, int]:
    """The most requests, and the most tokens, that arrived within so many seconds."""
    windows = [
        [tokens for at, tokens in arrived if start <= at < start + seconds] for start, _ in arrived
    ]
    return max(map(len, windows)), max(map(sum, windows))


@pytest.mark.parametrize("seed", range(5))
def test_no_minute_of_the_providers_clock_sees_more_than_the_settings_allow(seed: int) -> None:
    clock, chance = Clock(), random.Random(seed)
    limit = RateLimit(requests_per_minute=20, tokens_per_minute=900, clock=clock)
    crowd = Crowd(limit=limit, clock=clock, chance=chance)
    for _ in range(200):
        tokens = chance.randint(1, 120)
        crowd.send(tokens, billed=chance.randint(1, tokens))
        crowd.move(chance.uniform(0.0, 0.5))
    requests, tokens = most_in_a_window(crowd.arrived, 60.0)
    assert requests <= 20
    assert tokens <= 900
    # And it is no slower than it has to be: the limit is nearly used.
    assert clock.now - 1000.0 < 60.0 * 200 / 10


def test_tokens_that_were_billed_beyond_their_estimate_count() -> None:
    clock = Clock()
    limit = RateLimit(tokens_per_minute=100, clock=clock)
    sent = limit.begin(10)
    assert isinstance(sent, Sent)
    limit.end(sent, billed=95)
    assert limit.seconds_to_wait(10) == pytest.approx(60.0, abs=0.01)
    assert limit.seconds_to_wait(5) == 0.0


def test_nobody_sends_before_a_refusal_is_over_and_then_half_as_many_at_once() -> None:
    clock = Clock()
    limit = RateLimit(clock=clock)
    eight = [limit.begin(1) for _ in range(8)]
    for sent in eight:
        assert isinstance(sent, Sent)
        limit.end(sent, hold=7.0)
    assert limit.begin(1) == pytest.approx(7.0, abs=0.01)
    assert limit.held == 7.0
    clock.now += 7.0
    four = [limit.begin(1) for _ in range(5)]
    assert [isinstance(sent, Sent) for sent in four] == [True] * 4 + [False]
    assert four[-1] == pytest.approx(LOOK_AGAIN, abs=0.01)
    assert isinstance(four[0], Sent)
    limit.end(four[0])
    assert [isinstance(limit.begin(1), Sent) for _ in range(3)] == [True, True, False]


def told(clock: Clock, **headers: str) -> RateLimit:
    """A limit after one answer with these headers; `_` stands for `-`."""
    limit = RateLimit(clock=clock)
    sent = limit.begin(10)
    assert isinstance(sent, Sent)
    named = {f"x-ratelimit-{name.replace('_', '-')}": value for name, value in headers.items()}
    limit.end(sent, headers=named)
    return limit


def test_a_key_with_no_requests_left_waits_for_the_reset_that_the_provider_named() -> None:
    clock = Clock()
    limit = told(clock, limit_requests="60", remaining_requests="0", reset_requests="1m30.5s")
    assert limit.seconds_to_wait(1) == pytest.approx(90.5, abs=0.01)
    clock.now += 90.5
    assert limit.seconds_to_wait(1) == 0.0


def test_only_a_request_of_more_tokens_than_are_left_waits_for_them() -> None:
    clock = Clock()
    limit = told(clock, limit_tokens="1000", remaining_tokens="100", reset_tokens="6m0s")
    assert limit.seconds_to_wait(100) == 0.0
    assert limit.seconds_to_wait(101) == pytest.approx(360.0, abs=0.01)
    assert isinstance(limit.begin(60), Sent)
    assert limit.seconds_to_wait(41) > 0.0


def test_what_is_in_flight_is_taken_off_what_is_left() -> None:
    clock = Clock()
    limit = RateLimit(clock=clock)
    first, *_ = [limit.begin(1) for _ in range(4)]
    assert isinstance(first, Sent)
    headers = {"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "2s"}
    limit.end(first, headers=headers)
    assert limit.seconds_to_wait(1) == pytest.approx(2.0, abs=0.01)


def test_a_request_larger_than_the_keys_own_limit_is_to_be_halved_unless_it_is_one_text() -> None:
    limit = told(Clock(), limit_tokens="1000", remaining_tokens="1000", reset_tokens="1s")
    assert "the key's limit of 1,000" in (limit.too_large(1001, alone=False) or "")
    assert limit.too_large(1001, alone=True) is None
    assert limit.too_large(1000, alone=False) is None
    own = RateLimit(tokens_per_minute=500)
    assert "[repair] tokens_per_minute = 500" in (own.too_large(501, alone=True) or "")


@pytest.mark.parametrize(
    "headers",
    [
        {"remaining_requests": "0", "reset_requests": "soon"},
        {"remaining_requests": "none", "reset_requests": "1s"},
        {"remaining_requests": "0"},
        {"remaining_requests": "0", "reset_requests": "23h59m"},
        {"remaining_requests": "-1", "reset_requests": "1s"},
    ],
)
def test_headers_that_cannot_be_read_or_look_a_day_ahead_hold_nobody_up(
    headers: dict[str, str],
) -> None:
    assert told(Clock(), **headers).seconds_to_wait(1) == 0.0


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1m30.5s", 90.5),
        ("1h2m3s", 3723.0),
        ("7.66s", 7.66),
        ("0s", 0.0),
        ("1s500ms", 1.5),
        ("", None),
        (None, None),
        ("s", None),
        ("60", None),
        ("1s ", 1.0),
        ("-1s", None),
        ("1m1h", None),
        ("inf", None),
        ("9" * 400 + "s", None),
        ("٣s", None),
    ],
)
def test_a_reset_is_read_in_every_form_it_is_written(
    written: str | None, seconds: float | None
) -> None:
    assert reset_seconds(written) == (None if seconds is None else pytest.approx(seconds))


def test_tenants_with_one_key_share_its_limits_and_others_have_their_own() -> None:
    limits = RateLimits(requests_per_minute=1)
    platform = limits.of(SecretStr("sk-platform"))
    assert isinstance(platform.begin(1), Sent)
    assert not isinstance(limits.of(SecretStr("sk-platform")).begin(1), Sent)
    assert isinstance(limits.of(SecretStr("sk-acme")).begin(1), Sent)
    assert "sk-platform" not in repr(limits)
