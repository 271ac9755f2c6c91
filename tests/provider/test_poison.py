"""Texts that the provider refuses, among others that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from remediation.provider.bisection import CONTROL_TEXT, Isolated, embed_isolating
from remediation.provider.errors import (
    InputRejected,
    KeyRefused,
    ModelUnavailable,
    ProviderError,
    ProviderUnavailable,
)
from remediation.provider.usage import NOTHING
from tests.embedders import KEY, TEXTS, embedder
from tests.provider_server import ProviderServer, ReceivedRequest, Reply, vector_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.embedders import LoneEmbedder


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
    assert "no dimensions here" in result.failure.reason
    assert [request.texts for request in server.requests] == [tuple(TEXTS), (CONTROL_TEXT,)]


@pytest.mark.parametrize(
    ("reply", "kind"), [(Reply(status=401), KeyRefused), (Reply(status=503), ProviderUnavailable)]
)
def test_what_was_embedded_before_a_failure_is_kept(
    server: ProviderServer, reply: Reply, kind: type[ProviderError]
) -> None:
    texts = ["good one", "good two", "bad", "good three"]

    def dies_at_the_second_half(request: ReceivedRequest) -> Reply | None:
        return reply if request.texts == ("bad", "good three") else None

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
