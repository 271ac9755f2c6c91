"""What is tried again and how long is waited, what is not, and how a stop ends it."""

from __future__ import annotations

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest

from remediation.provider.errors import (
    InputRejected,
    KeyRefused,
    ModelUnavailable,
    ProviderError,
    ProviderUnavailable,
    Stopped,
    Unreachable,
)
from remediation.provider.rate_limits import RateLimit, RateLimits
from remediation.provider.reachability import Reachability
from remediation.provider.retry import LONGEST_ASKED, RetryPolicy, retry_after
from tests.servers.embedders import KEY, TEXTS, embedder, expected, failure
from tests.servers.provider_server import ProviderServer, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator


class RecordingStop(threading.Event):
    """A stop that notes the seconds it is waited for, and lets them pass at once on its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.now = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        self.now += timeout or 0.0
        return self.is_set()

    @property
    def limit(self) -> RateLimit:
        """A limit by that clock."""
        return RateLimit(clock=lambda: self.now)


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer(keys={KEY}) as running:
        yield running


@pytest.mark.parametrize(
    "fault",
    [
        *(Reply(status=status) for status in (408, 409, 429, 500, 502, 503, 504, 529)),
        Reply(cut=-1),
        Reply(cut=20),
        Reply(cut=0),
    ],
)
def test_a_passing_fault_is_tried_again(server: ProviderServer, fault: Reply) -> None:
    server.next(fault, fault)
    with embedder(server) as asked:
        embedded = asked.embed(TEXTS)
    np.testing.assert_array_equal(embedded.vectors, expected(TEXTS))
    assert embedded.usage.requests == 3


def test_an_outage_is_given_up_after_six_tries(server: ProviderServer) -> None:
    server.always(Reply(status=503))
    error = failure(embedder(server))
    assert isinstance(error, ProviderUnavailable)
    assert error.reason.startswith("provider answered 503")
    assert len(server.requests) == error.usage.requests == 6


def test_a_closed_port_is_an_outage() -> None:
    with ProviderServer() as server:
        asked = embedder(server)
    error = failure(asked)
    assert isinstance(error, ProviderUnavailable)
    words = f"connection refused by {server.base_url}, 6 of 6 tries; check base_url"
    assert error.reason == words


def test_an_endpoint_that_nobody_ever_reached_is_given_up_for_all_tenants_at_once() -> None:
    with ProviderServer() as server:
        reachability = RateLimits().reachability(server.base_url)
        asked = [embedder(server, reachability=reachability) for _ in range(40)]
    errors = [failure(one) for one in asked]
    assert {error.reason for error in errors[1:]} == {
        f"connection refused by {server.base_url}, 12 of 12 tries; check base_url"
    }
    assert sum(error.usage.requests for error in errors) == 12


def test_an_endpoint_that_was_reached_once_is_never_taken_for_a_wrong_one() -> None:
    reachability = Reachability()
    reachability.told(KeyRefused("somebody is there"))
    for _ in range(100):
        reachability.told(Unreachable("connection refused"))
    assert reachability.dead is None
    assert not reachability.unknown


@pytest.mark.parametrize(
    "silence",
    [Reply(pause=60.0), Reply(drip=0.05), *(Reply(status=s, drip=0.05) for s in (302, 400, 503))],
)
def test_an_answer_that_does_not_come_in_time_is_given_up(
    server: ProviderServer, silence: Reply
) -> None:
    server.always(silence)
    error = failure(embedder(server, timeout=0.3, retry=RetryPolicy(attempts=2, base_delay=0.001)))
    assert isinstance(error, ProviderUnavailable)
    assert "gave no whole answer within 0.3 s" in error.reason
    assert error.usage.requests == 2


def test_a_refusal_of_any_length_is_read_only_as_far_as_it_may_say_something(
    server: ProviderServer,
) -> None:
    server.always(Reply(status=503, body=b"x" * 50_000_000))
    tracemalloc.start()
    try:
        error = failure(embedder(server, retry=RetryPolicy(attempts=2, base_delay=0.001)))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.reason == "provider answered 503"
    # The server's own 50 MB are made once, before; a client that took them would double them.
    assert most < 25_000_000


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(status=401), KeyRefused),
        (Reply(status=402), KeyRefused),
        (Reply(status=403), KeyRefused),
        (Reply(status=429, error={"code": "insufficient_quota"}), KeyRefused),
        (Reply(status=429, error={"type": "insufficient_quota", "code": None}), KeyRefused),
        (Reply(status=429, error={"code": "billing_not_active"}), KeyRefused),
        (Reply(status=400, error={"code": "billing_hard_limit_reached"}), KeyRefused),
        (Reply(status=400), InputRejected),
        (Reply(status=413, body=b"<html>too large</html>"), InputRejected),
        (Reply(status=422, body=b'{"detail": [{"loc": ["body"]}]}'), InputRejected),
        (Reply(status=404), ModelUnavailable),
        (Reply(status=405), ModelUnavailable),
        (Reply(status=403, error={"code": "model_not_found"}), ModelUnavailable),
        (Reply(status=400, error={"param": "dimensions"}), ModelUnavailable),
        (Reply(status=308, headers={"Location": "/elsewhere"}), ModelUnavailable),
    ],
)
def test_a_refusal_is_never_tried_again(
    server: ProviderServer, reply: Reply, kind: type[ProviderError]
) -> None:
    server.always(reply)
    error = failure(embedder(server))
    assert type(error) is kind
    assert error.reason.startswith(f"provider answered {reply.status}")
    assert len(server.requests) == error.usage.requests == 1


def test_a_redirect_never_carries_texts_to_another_host(server: ProviderServer) -> None:
    with ProviderServer() as elsewhere:
        server.next(Reply(status=307, headers={"Location": f"{elsewhere.base_url}/embeddings"}))
        failure(embedder(server))
        assert elsewhere.requests == []


def test_the_wait_that_the_provider_asks_for_is_kept(server: ProviderServer) -> None:
    stop = RecordingStop()
    server.next(
        Reply(status=429, headers={"Retry-After": "7"}),
        Reply(status=503, headers={"Retry-After": "90", "retry-after-ms": "1500"}),
        Reply(status=429, headers={"Retry-After": "120"}),
    )
    with embedder(server, stop=stop, limit=stop.limit) as asked:
        asked.embed(TEXTS)
    assert [int(seconds * 10) / 10 for seconds in stop.waits] == [7.0, 1.5, 120.0]


def test_a_provider_that_asks_for_too_long_a_wait_is_given_up(server: ProviderServer) -> None:
    server.next(Reply(status=429, headers={"Retry-After": "3600"}))
    error = failure(embedder(server))
    assert isinstance(error, ProviderUnavailable)
    assert error.reason.endswith("it asks to wait 3600 s")
    assert str(error) == error.reason
    assert error.usage.requests == 1


def test_delays_double_up_to_their_cap_with_full_jitter(server: ProviderServer) -> None:
    server.always(Reply(status=503))
    caps = [1.0, 2.0, 4.0, 5.0, 5.0]
    seen = []
    for _ in range(6):
        stop = RecordingStop()
        policy = RetryPolicy(base_delay=1.0, longest_delay=5.0)
        failure(embedder(server, stop=stop, retry=policy, limit=stop.limit))
        assert len(stop.waits) == 5
        assert all(0 < seconds <= cap + 0.01 for seconds, cap in zip(stop.waits, caps, strict=True))
        seen.append(stop.waits[2])
    assert len(set(seen)) > 1


NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "inf"}, LONGEST_ASKED),
        ({"retry-after": "Mon, 01 Jan 9999 00:00:00 GMT"}, LONGEST_ASKED),
        ({"retry-after": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}, None),
        ({"retry-after": "Mon, 01 Jan 2026 00:00:00 +99999999999999"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "3"}, 3.0),
        ({"retry-after": "Sat, 31 Jan 2026 12:01:30 GMT"}, 90.0),
        ({"retry-after": "Sat, 31 Jan 2026 11:59:00 GMT"}, 0.0),
        ({"retry-after": "Sat, 31 Jan 2026 12:00:10 -0000"}, 10.0),
        # A clock of ours that is five hours off: the answer's own date is what counts.
        (
            {
                "retry-after": "Sat, 31 Jan 2026 17:00:07 GMT",
                "date": "Sat, 31 Jan 2026 17:00:00 GMT",
            },
            7.0,
        ),
        ({"retry-after": "Sat, 31 Jan 2026 12:00:10 GMT", "date": "today"}, 10.0),
    ],
)
def test_a_wait_is_read_in_every_form_it_is_written(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(headers, NOW) == seconds


# Stopping


def test_stop_ends_a_long_wait_at_once(server: ProviderServer) -> None:
    stop = threading.Event()
    server.always(Reply(status=429, headers={"Retry-After": "115"}))
    with embedder(server, stop=stop) as asked, ThreadPoolExecutor(1) as thread:
        answer = thread.submit(asked.embed, TEXTS)
        server.wait_for_requests(1)
        stop.set()
        # Without the interruption this would run into its limit.
        assert isinstance(answer.exception(timeout=60), Stopped)
    assert len(server.requests) == 1


def test_nothing_is_sent_after_stop(server: ProviderServer) -> None:
    stop = threading.Event()
    stop.set()
    error = failure(embedder(server, stop=stop))
    assert isinstance(error, Stopped)
    assert error.usage.requests == 0
    assert server.requests == []
