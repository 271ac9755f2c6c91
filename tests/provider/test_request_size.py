"""Endpoints that take fewer texts or tokens in a request than the settings say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from remediation.provider.bisection import embed_isolating
from remediation.provider.errors import InputRejected
from remediation.provider.rate_limits import RateLimits
from remediation.provider.request_size import RequestSize, TooMuch, too_much
from remediation.provider.retry import RetryPolicy
from tests.drivers.repairs import docs, environment, repaired, settings
from tests.servers.embedders import SOON, embedder, expected
from tests.servers.provider_server import ProviderServer, ReceivedRequest, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MOST_SEVEN = "Too many inputs. The max number of inputs is 7. We hope to increase it soon."
SAID: list[tuple[int, object, TooMuch | None]] = [
    (400, {"error": {"message": MOST_SEVEN, "code": "429"}}, TooMuch(unit="texts", most=7)),
    (
        400,
        {
            "error": {
                "message": "Invalid 'input': array too long. Expected an array with maximum length"
                " 7, but got an array with length 40 instead.",
                "param": "input",
                "code": "array_above_max_length",
            }
        },
        TooMuch(unit="texts", most=7),
    ),
    (413, {"error": "batch size 40 > maximum allowed batch size 7"}, TooMuch(unit="texts", most=7)),
    (
        422,
        {
            "detail": [
                {
                    "loc": ["body", "input"],
                    "msg": "List should have at most 7 items after validation, not 40",
                    "input": ["at most 3 items"],
                }
            ]
        },
        TooMuch(unit="texts", most=7),
    ),
    (
        400,
        [{"error": {"message": "at most 7 requests can be in one batch"}}],
        TooMuch(unit="texts", most=7),
    ),
    (
        400,
        {"message": "invalid request: total number of texts must be at most 7 - received 40"},
        TooMuch(unit="texts", most=7),
    ),
    (400, {"message": "input数组最大不得超过7条"}, TooMuch(unit="texts", most=7)),
    (
        500,
        {"error": {"message": "batch of 40 exceeds the limit of 7"}},
        TooMuch(unit="texts", most=7),
    ),
    (
        400,
        {"message": "Too many inputs in request, split into more batches."},
        TooMuch(unit="texts"),
    ),
    (400, {"error": {"message": "no"}}, None),
    (413, "<html><body>Request Entity Too Large</body></html>", None),
]


def larger_than(
    texts: int, status: int, content: object
) -> Callable[[ReceivedRequest], Reply | None]:
    body = content.encode() if isinstance(content, str) else json.dumps(content).encode()

    def rule(request: ReceivedRequest) -> Reply | None:
        return Reply(status=status, body=body) if len(request.texts) > texts else None

    return rule


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer() as running:
        yield running


@pytest.mark.parametrize(("status", "content", "said"), SAID)
def test_a_limit_of_texts_is_learnt_from_whatever_refusal(
    server: ProviderServer, status: int, content: Any, said: TooMuch | None
) -> None:
    body = content if isinstance(content, str) else json.dumps(content)
    assert too_much(body.encode(), texts=40) == said
    server.always(larger_than(7, status, content))
    texts = [f"text {n} of many" for n in range(40)]
    with embedder(server) as asked:
        asked.embed(["healthy"])
        for _ in range(2):
            before = len(server.requests)
            result = embed_isolating(asked, texts)
            np.testing.assert_array_equal(np.stack(result.outcomes), expected(texts))  # type: ignore[arg-type]
        # A refusal that may be for anything is held against the size of a request after a while.
        assert asked.size.texts == (5 if content == {"error": {"message": "no"}} else 7)
    # None of the second batch is refused any more.
    assert len(server.requests) - before == (8 if asked.size.texts == 5 else 6)


@pytest.mark.parametrize(
    ("limit", "together", "found"), [(8, 40, 8), (9, 50, 9), (1, 7, 1), (100, 512, 100)]
)
def test_a_limit_that_is_not_said_as_a_number_is_searched_once(
    server: ProviderServer, limit: int, together: int, found: int
) -> None:
    server.always(larger_than(limit, 400, {"error": {"message": "Too many inputs; send fewer."}}))
    texts = [f"text {n} of many" for n in range(together)]
    taken: list[str] = []
    with embedder(server) as asked:
        asked.embed(["healthy"])
        for _ in range(3):
            before = len(server.requests)
            result = embed_isolating(asked, texts)
            np.testing.assert_array_equal(np.stack(result.outcomes), expected(texts))  # type: ignore[arg-type]
            sent = server.requests[before:]
            taken = [text for each in sent if len(each.texts) <= limit for text in each.texts]
            # What was taken once is not asked for again.
            assert sorted(taken) == sorted(texts)
        assert asked.size.texts == found
        assert len(sent) == -(-together // found)
    halvings = (together // limit).bit_length()
    refused = sum(len(request.texts) > limit for request in server.requests)
    assert refused <= halvings + 5


def test_a_larger_request_is_tried_by_one_at_a_time() -> None:
    size = RequestSize()
    size.learn("texts", 4, refused=16, exact=False)
    assert size.first(range(20), len) == (tuple(range(10)), True)  # type: ignore[arg-type]
    assert size.first(range(20), len) == (tuple(range(4)), False)  # type: ignore[arg-type]
    size.refuse("texts", 10)
    size.end_trial()
    assert size.first(range(20), len) == (tuple(range(7)), True)  # type: ignore[arg-type]
    size.end_trial()
    # What was taken as a smaller size is not forgotten, and what was refused as one is.
    size.taken(6, 60)
    size.learn("texts", 3, refused=8, exact=False)
    assert size.learnt == {"texts": 6}
    size.learn("texts", 3, refused=6, exact=False)
    assert size.learnt == {"texts": 3}


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 8 tokens, however you requested 20 tokens (20 in"
        " your prompt; 0 for the completion). Please reduce your prompt.",
        "Unexpected value at input[3]",
        "encoding of text-embedding-3 failed",
    ],
)
def test_what_is_said_of_one_text_is_no_limit_of_a_request(
    server: ProviderServer, words: str
) -> None:
    texts = [f"text {n} of many" for n in range(16)]

    def rule(request: ReceivedRequest) -> Reply | None:
        refused = texts[11] in request.texts
        return Reply(status=400, error={"message": words}) if refused else None

    server.always(rule)
    with embedder(server) as asked:
        result = embed_isolating(asked, texts)
    assert [isinstance(o, InputRejected) for o in result.outcomes] == [n == 11 for n in range(16)]
    assert asked.size.learnt == {}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "The max allowed tokens per submitted batch is 60. Your batch has 120 tokens."),
        (400, "Requested 1,200 tokens, max 60 tokens per request"),
        (413, "Too many tokens overall, split into more batches."),
        (
            429,
            "Request too large for this model on tokens per min (TPM): Limit 60, Requested 120.",
        ),
    ],
)
def test_a_limit_of_tokens_is_learnt_and_long_texts_go_in_smaller_requests(
    server: ProviderServer, status: int, words: str
) -> None:
    def rule(request: ReceivedRequest) -> Reply | None:
        tokens = sum(len(text) // 3 for text in request.texts)
        return Reply(status=status, error={"message": words}) if tokens > 60 else None

    server.always(rule)
    texts = [f"text {n:02} of thirty characters" for n in range(16)]
    with embedder(server) as asked:
        for _ in range(3):
            before = len(server.requests)
            result = embed_isolating(asked, texts)
            np.testing.assert_array_equal(np.stack(result.outcomes), expected(texts))  # type: ignore[arg-type]
        assert asked.size.texts is None
        assert 50 < (asked.size.tokens or 0) <= 60
    sent = server.requests[before:]
    assert all(rule(request) is None for request in sent)


def test_what_one_tenants_key_learns_holds_for_all_and_is_told_once(
    database: str, tmp_path: Path
) -> None:
    said: list[str] = []
    limits = RateLimits()
    with (
        docs(database, {"acme": (1, 30), "globex": (1, 30)}) as table,
        ProviderServer() as server,
    ):
        server.always(larger_than(4, 422, {"detail": "at most 4 texts"}))
        done = repaired(
            database,
            settings(server, provider={"batch_size": 20, "concurrency": 1}),
            tmp_path,
            keys=environment("acme", "globex"),
            limits=limits,
            on_pause=said.append,
        )
        assert done.counts() == {"selected": 60, "fixed": 60}
        assert table.wrong() == []
        assert sum(len(request.texts) > 4 for request in server.requests) == 1
    assert [words for words in said if "in a request" in words] == [
        "127.0.0.1 takes no more than 4 texts in a request (of text-embedding-3-small; 10 were"
        " refused), so requests are made smaller: with batch_size = 4 in [provider] none is refused"
    ]


def test_parts_are_as_few_as_a_request_may_hold() -> None:
    size = RequestSize(texts=3, tokens=10)
    tokens = [2, 2, 2, 2, 9, 40, 1]
    assert size.parts(range(7), tokens.__getitem__) == [(0, 1, 2), (3,), (4,), (5,), (6,)]
    assert RequestSize().parts((4, 5), tokens.__getitem__) == [(4, 5)]


@pytest.mark.parametrize("status", [500, 400])
def test_a_size_that_nothing_names_is_given_up_when_larger_requests_are_taken(
    server: ProviderServer, status: int
) -> None:
    texts = [f"text {n} of many" for n in range(40)]
    with embedder(server) as asked:
        asked.embed(["healthy"])
        server.always(larger_than(7, status, {"error": {"message": "no"}}))
        for _ in range(2):
            embed_isolating(asked, texts)
        assert asked.size.learnt == {"texts": 5}
        # A limit that is there is tried ever more seldom, one step at a time.
        before = len(server.requests)
        for _ in range(10):
            embed_isolating(asked, texts)
        larger = sum(len(request.texts) > 7 for request in server.requests[before:])
        assert 0 < larger <= 2 * SOON.attempts
        assert asked.size.learnt == {"texts": 5}
        server.always(None)
        for _ in range(20):
            embed_isolating(asked, texts)
        assert asked.size.learnt == {}
        assert len(server.requests[-1].texts) == 40


def test_outages_between_large_requests_that_are_taken_teach_no_size(
    server: ProviderServer,
) -> None:
    texts = [f"text {n} of many" for n in range(8)]
    with embedder(server, retry=RetryPolicy(base_delay=0.001, attempts=2)) as asked:
        for _ in range(4):
            server.next(Reply(status=500), Reply(status=500))
            embed_isolating(asked, texts)
            embed_isolating(asked, texts)
        assert asked.size.learnt == {}
        assert [len(request.texts) for request in server.requests[-6:]] == [8, 8, 1, 4, 4, 8]
