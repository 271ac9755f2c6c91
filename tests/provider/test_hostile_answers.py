"""Whatever an endpoint says, its tenant alone may stop, with a reason, and in time."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import math
import threading
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from remediation.provider.embedder import Embedded, Embedder
from remediation.provider.endpoint import Endpoint
from remediation.provider.errors import ProviderError, ProviderUnavailable, UntrustworthyResponse
from remediation.provider.openai_compatible.embeddings import OpenAIEmbeddings
from remediation.provider.rate_limits import RateLimit
from remediation.provider.retry import RetryPolicy
from remediation.throttling.budget import Budget
from tests.servers.embedders import KEY, SOON, TEXTS, expected, failure
from tests.servers.embedders import embedder as usual
from tests.servers.provider_server import MODEL, ProviderServer, Reply
from tests.servers.raw_endpoint import RawEndpoint, healthy, http

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.servers.raw_endpoint import Piece

ONCE = RetryPolicy(attempts=1, untrustworthy_attempts=1, base_delay=0.001)
COUNTED, BYTES = 15, 43
"""Tokens of the three texts by the estimate, and their bytes."""
MARK = "Wq7zLupus"
"""Stands in every string of a hostile answer, as a text in a disguise would."""


def embedder(endpoint: RawEndpoint, *, timeout: float = 30.0, **more: Any) -> Embedder:
    place = Endpoint(base_url=endpoint.base_url, model=MODEL, dimensions=8, **more)
    provider = OpenAIEmbeddings(place, timeout=timeout)
    return Embedder(provider, SecretStr(KEY), stop=threading.Event(), retry=ONCE, limit=RateLimit())


def came_of(asked: Embedder, texts: Sequence[str] = TEXTS) -> Embedded | ProviderError:
    try:
        return asked.embed(texts)
    except ProviderError as error:
        return error
    finally:
        asked.provider.close()


# Every header, number, date and string

WORDS = st.sampled_from([MARK, f"{MARK}\ud800", f"\x1b[31m{MARK}", "", "9" * 401, "nan", "1e999"])
NUMBERS = st.one_of(
    st.sampled_from([10**400, -(10**400), 10**15, 2**63, -1, 0, True, 1e300, -0.0]),
    st.sampled_from([math.inf, math.nan]),
    st.integers(),
    st.floats(),
)
VALUES = st.recursive(
    st.none() | WORDS | NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
PLACES = (
    ("usage",),
    ("usage", "total_tokens"),
    ("model",),
    ("data",),
    ("data", 0),
    ("data", 1, "index"),
    ("data", 2, "embedding"),
    ("data", 2, "embedding", 3),
    ("error",),
)
MOMENTS = st.sampled_from(
    [
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2026 00:00:00 +99999999999999",
        "Mon, 99 Jan 2026 99:99:99 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "1e308",
        "-inf",
        "9" * 5000,
        "99999h99999m",
        "0" * 60 + "s",
    ]
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["retry-after", "retry-after-ms", "Content-Type", "Set-Cookie", "Location", "Date"]
        + [
            f"x-ratelimit-{what}-{of}"
            for what in ("limit", "remaining", "reset")
            for of in ("requests", "tokens")
        ]
    ),
    st.one_of(
        MOMENTS,
        st.integers().map(str),
        st.sampled_from([MARK, "text/html; charset=bz2", "text/plain; charset=undefined"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30),
    ),
    max_size=6,
)
STATUSES = st.one_of(
    st.sampled_from(
        ["200 OK", "200", "429 no", "400 no", "500 no", "302 no", "999 no", f"2 {MARK}"]
    ),
    st.integers(100, 999).map(lambda number: f"{number} {MARK}"),
)


def changed(body: Any, place: tuple[Any, ...], value: object) -> None:
    *way, last = place
    for step in way:
        body = body[step]
    body[last] = value


@pytest.fixture(scope="module")
def raw() -> Iterator[RawEndpoint]:
    with RawEndpoint(lambda _, __: ()) as running:
        yield running


@given(
    status=STATUSES,
    headers=HEADERS,
    changes=st.dictionaries(st.sampled_from(PLACES), VALUES, max_size=2),
    packing=st.sampled_from(["identity", "identity", "gzip", "deflate", "br", "gzip, gzip"]),
    start=st.sampled_from([b"", b"", b"", b"HTTP/1.1 100 \r\n\r\n" * 9, b"\xff" * 99, b"[" * 9000]),
)
@example(
    status="429 no", headers={"retry-after": "9" * 400}, changes={}, packing="identity", start=b""
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_an_answer_says_there_are_vectors_or_a_reason(
    raw: RawEndpoint,
    status: str,
    headers: dict[str, str],
    changes: dict[tuple[Any, ...], object],
    packing: str,
    start: bytes,
) -> None:
    said = healthy(TEXTS)
    for place, value in sorted(changes.items(), key=lambda each: len(each[0]), reverse=True):
        changed(said, place, value)
    body = json.dumps(said).encode()
    for encoding in packing.split(", "):
        if encoding == "gzip":
            body = gzip.compress(body)
        elif encoding == "deflate":
            body = zlib.compress(body)
    lines = [f"{name}: {value}" for name, value in headers.items()]
    answer = start + http(body, f"Content-Encoding: {packing}", *lines, status=status)
    raw.script = lambda _, __: (answer,)
    asked = embedder(raw)
    limit = asked._limit
    came = came_of(asked)
    if isinstance(came, Embedded):
        assert came.vectors.shape == (3, 8)
        assert np.isfinite(came.vectors).all()
    else:
        assert came.reason.isprintable()
        assert MARK not in came.reason
        assert len(came.reason) < 300
    budget = Budget(max_rows=1, max_cost=1.0, price_per_million_tokens=0.02)
    budget.settle(reserved=0, took=came.usage)
    assert 0 <= budget.took.reckoned <= BYTES + 3 * 16
    assert 0.0 <= limit.seconds_to_wait(COUNTED) <= 31_536_001.0
    assert 0.0 <= limit.held <= 31_536_001.0


@pytest.mark.parametrize(
    ("claim", "own", "reckoned"),
    [
        (14, False, 14),
        (BYTES + 3 * 16, False, BYTES + 3 * 16),
        (BYTES + 3 * 16 + 1, False, COUNTED),
        (10**400, False, COUNTED),
        (COUNTED, True, COUNTED),
        (COUNTED + 1, True, COUNTED),
        (10**15, True, COUNTED),
    ],
)
def test_a_bill_that_cannot_be_counts_as_we_count(
    raw: RawEndpoint, claim: int, own: bool, reckoned: int
) -> None:
    body = json.dumps({**healthy(TEXTS), "usage": {"total_tokens": claim}}).encode()
    raw.script = lambda _, __: (http(body),)
    came = came_of(embedder(raw, own=own))
    assert isinstance(came, Embedded)
    assert came.usage.reckoned == reckoned


def test_a_date_to_wait_for_is_held_against_the_clock_that_wrote_it(raw: RawEndpoint) -> None:
    by_a_wrong_clock = [
        "Date: Mon, 01 Jan 2001 00:00:00 GMT",
        "Retry-After: Mon, 01 Jan 2001 00:05:00 GMT",
    ]
    raw.script = lambda _, __: (http(b"{}", *by_a_wrong_clock, status="429 no"),)
    asked = embedder(raw)
    assert isinstance(came_of(asked), ProviderError)
    assert 290.0 < asked._limit.held < 301.0


# Time and size


def ever(start: bytes, piece: bytes) -> Iterable[Piece]:
    """An answer without an end, of which something comes ten times within the time allowed."""
    return itertools.chain([start], itertools.chain.from_iterable(itertools.repeat((piece, 0.02))))


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
NOTHING = gzip.compress(b"")
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"
"""A block of deflate that holds nothing, and says that others follow."""


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"H", b"T"),
        (b"HTTP/1.1 200 O", b"K"),
        (b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n"),
        (b"HTTP/1.1 429 no\r\nx-a: ", b"b"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (CHUNKED + b"\r\n1;a=", b"b"),
        (CHUNKED + b"\r\n0\r\n", b"x-a: b\r\n"),
        (CHUNKED + b"\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
        (b"HTTP/1.1 500 no\r\n\r\n", b" "),
        (CHUNKED + b"Content-Encoding: gzip\r\n\r\n", b"14\r\n" + NOTHING + b"\r\n"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + NOTHING[:10],
            EMPTY_BLOCK,
        ),
    ],
    ids=range(12),
)
@pytest.mark.parametrize("again", [pytest.param(False, marks=pytest.mark.thorough), True])
def test_no_trickle_of_any_part_of_an_answer_outlasts_its_time(
    start: bytes, piece: bytes, again: bool
) -> None:
    good = http(json.dumps(healthy(TEXTS)).encode())
    with RawEndpoint(lambda _, __: (good,), keeping=True) as endpoint:
        asked = embedder(endpoint, timeout=0.25)
        if again:  # over a connection that was opened for an earlier request
            asked.embed(TEXTS)
        endpoint.script = lambda _, __: ever(start, piece)
        came = came_of(asked)
    assert isinstance(came, ProviderUnavailable)
    # A refusal that ends with its link is whole for all that anybody can tell.
    assert came.reason in ("provider gave no whole answer within 0.25 s", "provider answered 500")


def bomb(times: int) -> bytes:
    """64 MB of white space, packed so many times."""
    body = b" " * 64_000_000
    for _ in range(times):
        body = gzip.compress(body, 1)
    return body


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (bomb(1), ["Content-Encoding: gzip"]),
        (bomb(2), ["Content-Encoding: gzip, gzip"]),
        (bomb(2), ["Content-Encoding: gzip", "Content-Encoding: x-gzip"]),
        (bz2.compress(b" " * 64_000_000), ["Content-Type: text/plain; charset=bz2"]),
        (gzip.compress(bz2.compress(b" " * 64_000_000)), ["Content-Encoding: gzip, bz2"]),
    ],
    ids=range(5),
)
@pytest.mark.parametrize("status", ["200 OK", "503 no", "400 no"])
def test_what_an_answer_unpacks_to_is_bounded(
    raw: RawEndpoint, body: bytes, headers: list[str], status: str
) -> None:
    raw.script = lambda _, __: (http(body, *headers, status=status),)
    asked = embedder(raw)
    tracemalloc.start()
    try:
        came = came_of(asked)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(came, ProviderError)
    assert most < 4_000_000


def test_an_answer_that_is_packed_once_is_read(raw: RawEndpoint) -> None:
    body = json.dumps(healthy(TEXTS)).encode()
    for encoding, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        answer = http(packed, f"Content-Encoding: {encoding}")
        raw.script = lambda _, __, answer=answer: (answer,)  # type: ignore[misc]
        came = came_of(embedder(raw))
        assert isinstance(came, Embedded)
        np.testing.assert_array_equal(came.vectors, expected(TEXTS))


def test_an_encoding_that_was_not_asked_for_is_refused_in_our_words(raw: RawEndpoint) -> None:
    raw.script = lambda _, __: (http(b"x", f"Content-Encoding: {MARK}"),)
    came = came_of(embedder(raw))
    assert isinstance(came, UntrustworthyResponse)
    assert "found another content-encoding" in came.reason


def test_a_bug_in_reading_an_answer_is_a_failed_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_: object) -> None:
        raise MemoryError(MARK)

    monkeypatch.setattr("remediation.provider.openai_compatible.embeddings.billed", fails)
    with ProviderServer() as server:
        server.always(Reply())
        error = failure(usual(server, retry=SOON))
    assert isinstance(error, UntrustworthyResponse)
    assert "found one that is MemoryError" in error.reason
