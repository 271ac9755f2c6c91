"""Texts that the provider refuses, among others that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from remediation.journal.outcomes import Outcome
from remediation.provider.bisection import CONTROL_TEXT, Isolated, embed_isolating
from remediation.provider.errors import (
    InputRejected,
    KeyRefused,
    ModelUnavailable,
    ProviderError,
    ProviderUnavailable,
    TextFails,
    UntrustworthyResponse,
)
from remediation.provider.usage import NOTHING
from tests.drivers.repairs import docs, environment, repaired, settings
from tests.servers.embedders import KEY, TEXTS, embedder
from tests.servers.provider_server import ProviderServer, ReceivedRequest, Reply, vector_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.servers.embedders import LoneEmbedder
    from tests.servers.provider_server import Body


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer(keys={KEY}) as running:
        yield running


def isolated(asked: LoneEmbedder, texts: Sequence[str]) -> Isolated:
    with asked:
        return embed_isolating(asked, texts)


def assert_vectors(result: Isolated, texts: list[str], refused: set[int]) -> None:
    for position, (text, outcome) in enumerate(zip(texts, result.outcomes, strict=True)):
        if position in refused:
            assert isinstance(outcome, InputRejected)
        else:
            assert isinstance(outcome, np.ndarray)
            np.testing.assert_array_equal(outcome, vector_of(text))


@pytest.mark.parametrize("refused", [set(), {0}, {31}, {7, 8}, {0, 13, 31}, set(range(32))])
def test_every_refused_text_is_found_and_every_other_embedded(
    server: ProviderServer, refused: set[int]
) -> None:
    texts = [f"{'bad' if n in refused else 'good'} text {n}" for n in range(32)]
    server.poison("bad")
    result = isolated(embedder(server), texts)
    assert_vectors(result, texts, refused)
    assert result.failure is None
    assert result.usage.requests == len(server.requests)
    sent = [request.texts for request in server.requests]
    assert len(sent) == len(set(sent))  # nothing is asked twice


def test_one_refused_text_costs_a_logarithm_of_requests(server: ProviderServer) -> None:
    texts = [f"text {n}" for n in range(64)]
    server.poison("text 41")
    with embedder(server) as asked:
        asked.embed(["healthy"])
        result = embed_isolating(asked, texts)
    assert result.usage.requests == 1 + 2 * 6
    assert result.usage.tokens == 2 * 63


def test_empty_texts_are_refused_without_being_sent(server: ProviderServer) -> None:
    texts = ["", "good text", "", "\ud800"]
    result = isolated(embedder(server), texts)
    assert_vectors(result, texts, {0, 2, 3})
    assert server.texts == ["good text"]
    assert isolated(embedder(server), ["", ""]).usage.requests == 0


def test_a_request_that_is_too_large_is_halved_and_all_is_embedded(server: ProviderServer) -> None:
    def at_most_four(request: ReceivedRequest) -> Reply | None:
        return Reply(status=413) if len(request.texts) > 4 else None

    server.always(at_most_four)
    texts = [f"text {n}" for n in range(16)]
    result = isolated(embedder(server), texts)
    assert_vectors(result, texts, set())


def test_a_provider_that_refuses_every_text_blames_no_row(server: ProviderServer) -> None:
    server.always(Reply(status=400, error={"message": "no dimensions here"}))
    result = isolated(embedder(server), TEXTS)
    assert result.outcomes == (None, None, None)
    assert isinstance(result.failure, ModelUnavailable)
    assert "check the [provider] settings: provider answered 400" in result.failure.reason
    asked = [(request.texts, request.body.get("encoding_format")) for request in server.requests]
    assert asked == [
        (tuple(TEXTS), "base64"),
        ((CONTROL_TEXT,), "base64"),
        ((CONTROL_TEXT,), "float"),
        ((CONTROL_TEXT,), None),
    ]


@pytest.mark.parametrize(
    ("reply", "kind"), [(Reply(status=401), KeyRefused), (Reply(status=503), ProviderUnavailable)]
)
def test_what_was_embedded_before_a_failure_is_kept(
    server: ProviderServer, reply: Reply, kind: type[ProviderError]
) -> None:
    texts = ["good one", "good two", "bad", "good three"]

    def dies_at_the_second_half(request: ReceivedRequest) -> Reply | None:
        if request.texts == ("bad", "good three"):
            server.always(reply)
            return reply
        return None

    server.always(dies_at_the_second_half)
    server.poison("bad")
    result = isolated(embedder(server), texts)
    assert_vectors(
        Isolated(
            outcomes=result.outcomes[:2],
            failure=None,
            usage=NOTHING,
        ),
        texts[:2],
        set(),
    )
    assert result.outcomes[2:] == (None, None)
    assert isinstance(result.failure, kind)
    assert result.usage.requests == len(server.requests)


def fails_at(*pieces: str, reply: Reply) -> Callable[[ReceivedRequest], Reply | None]:
    """A rule by which every request of which a text contains one of the pieces fails."""

    def rule(request: ReceivedRequest) -> Reply | None:
        return reply if any(p in text for p in pieces for text in request.texts) else None

    return rule


def one_is_nan(answer: Body) -> None:
    for item in answer["data"]:
        item["embedding"] = [float("nan")] * 8


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=500, error={"message": "json: unsupported value: NaN"}),
        Reply(status=502, body=b"<html>Bad Gateway</html>"),
        Reply(cut=-1),
        Reply(change=one_is_nan),
        Reply(change=lambda answer: answer["data"].pop()),
        Reply(body=b"{"),
    ],
)
def test_a_text_that_makes_its_request_fail_is_found_and_every_other_embedded(
    server: ProviderServer, reply: Reply
) -> None:
    texts = [f"text {n:02}" for n in range(32)]
    server.always(fails_at("text 07", "text 30", reply=reply))
    with embedder(server) as asked:
        result = embed_isolating(asked, texts)
        assert_vectors(result, texts, {7, 30})
        assert result.failure is None
        assert result.usage.requests == len(server.requests) < 70
        for position in (7, 30):
            assert isinstance(failing := result.outcomes[position], TextFails)
            assert failing.reason.startswith("the provider fails at this text, not at another: ")
        # Known to do so, it is not waited for as long as for an outage.
        before = len(server.requests)
        result = embed_isolating(asked, texts[:16])
        assert_vectors(result, texts[:16], {7})
        assert len(server.requests) - before < 30
        assert asked.size.learnt == {}


def test_a_firewall_s_refusal_of_one_text_leaves_the_key_in_use(server: ProviderServer) -> None:
    texts = [f"text {n:02}" for n in range(16)]
    firewall = Reply(status=403, body=b"<html>Attention Required!</html>")
    server.always(fails_at("text 07", reply=firewall))
    with embedder(server) as asked:
        asked.embed(["a healthy row"])  # the probe
        result = embed_isolating(asked, texts)
        assert_vectors(result, texts, {7})
        assert isinstance(result.outcomes[7], TextFails)
        # A key that is refused meanwhile is not: a harmless text tells it.
        server.always(Reply(status=403))
        before = len(server.requests)
        for _ in range(3):
            assert isinstance(embed_isolating(asked, texts).failure, KeyRefused)
        assert [r.texts for r in server.requests[before:]].count((CONTROL_TEXT,)) <= 2
        assert len(server.requests) - before <= 4


@pytest.mark.parametrize(
    "reply", [Reply(status=503), Reply(cut=-1), Reply(body=b"{}"), Reply(status=429)]
)
def test_an_outage_is_not_searched_for_a_text(server: ProviderServer, reply: Reply) -> None:
    server.always(reply)
    result = isolated(embedder(server), TEXTS)
    assert result.outcomes == (None, None, None)
    assert result.failure is not None
    asked = [request.texts for request in server.requests]
    controls = 0 if reply.status == 429 else 2
    assert asked == [tuple(TEXTS)] * (len(asked) - controls) + [(CONTROL_TEXT,)] * controls
    assert len(asked) <= 8


def test_an_endpoint_that_answers_nothing_but_the_control_text_is_soon_given_up(
    server: ProviderServer,
) -> None:
    server.always(fails_at("text", reply=Reply(status=500)))
    result = isolated(embedder(server), [f"text {n}" for n in range(64)])
    assert isinstance(result.failure, ProviderUnavailable)
    assert sum(outcome is not None for outcome in result.outcomes) == 3
    assert len(server.requests) < 45


def test_the_same_vector_for_every_text_of_a_request_is_not_taken_for_single_ones(
    server: ProviderServer,
) -> None:
    def constant(answer: Body) -> None:
        for item in answer["data"]:
            item["embedding"] = [1.0] * 8

    server.always(Reply(change=constant))
    result = isolated(embedder(server), TEXTS)
    assert result.outcomes == (None, None, None)
    assert isinstance(result.failure, UntrustworthyResponse)
    assert {request.texts for request in server.requests} == {tuple(TEXTS)}


def test_an_endpoint_that_fails_at_large_requests_is_sent_smaller_ones(
    server: ProviderServer,
) -> None:
    server.always(lambda request: Reply(status=504) if len(request.texts) > 6 else None)
    texts = [f"text {n}" for n in range(48)]
    with embedder(server) as asked:
        assert_vectors(embed_isolating(asked, texts), texts, set())
        assert asked.size.texts == 6
        before = len(server.requests)
        assert_vectors(embed_isolating(asked, texts), texts, set())
    assert len(server.requests) - before == 8


def test_a_provider_that_begins_to_refuse_every_text_is_asked_for_a_harmless_one(
    server: ProviderServer,
) -> None:
    with embedder(server) as asked:
        asked.embed(["healthy"])
        server.always(Reply(status=400, error={"message": "your plan has ended"}))
        result = embed_isolating(asked, [f"text {n}" for n in range(32)])
    assert isinstance(result.failure, ModelUnavailable)
    assert "refuses any text" in result.failure.reason
    assert sum(outcome is not None for outcome in result.outcomes) == 3


def test_a_repair_fixes_all_but_the_text_that_the_endpoint_fails_at(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (3, 30)}) as table, ProviderServer() as server:
        server.always(fails_at("document 21 ", reply=Reply(status=500)))
        chosen = settings(server, provider={"batch_size": 15})
        done = repaired(database, chosen, tmp_path, keys=environment("acme"))
        assert done.counts() == {"selected": 30, "fixed": 29, "failed": 1}
        assert table.wrong() == [21]
        assert done.docs.stopped is None
        (reason,) = done.reasons(Outcome.FAILED)
        assert reason.startswith("the provider fails at this text, not at another: provider answ")
