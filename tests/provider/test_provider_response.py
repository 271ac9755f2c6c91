"""Which answers of a provider are trusted."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
import pytest

from remediation.provider.errors import (
    UntrustworthyResponse,
)
from remediation.provider.openai_compatible.model_names import repeatable, same_model
from tests.servers.embedders import KEY, TEXTS, embedder, expected, failure
from tests.servers.provider_server import ProviderServer, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.provider_server import Body


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer(keys={KEY}) as running:
        yield running


def set_vector(index: int, vector: object) -> Callable[[Body], object]:
    return lambda body: body["data"][index].update(embedding=vector)


def packed(*numbers: float) -> str:
    return base64.b64encode(np.array(numbers, dtype="<f4").tobytes()).decode()


def one_vector(body: Body) -> None:
    """As a stub answers, or a cache that forgets what it was asked."""
    for item in body["data"]:
        item.update(embedding=body["data"][0]["embedding"])


ONES = [1.0] * 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda body: body["data"].pop(), "expected 3 embeddings, found 2"),
        (lambda body: body["data"].append(body["data"][0]), "expected 3 embeddings, found 4"),
        (lambda body: body["data"][1].update(index=0), "each index from 0 to 2 once"),
        (lambda body: body["data"][1].update(index=3), "each index from 0 to 2 once"),
        (
            lambda body: [
                item.update(index=n) for item, n in zip(body["data"], (1, 3, 4), strict=True)
            ],
            "each index from 0 to 2 once",
        ),
        (lambda body: body["data"][1].update(index=-1), "each index from 0 to 2 once"),
        (lambda body: body["data"][1].update(index=True), "each index from 0 to 2 once"),
        (lambda body: body["data"][1].pop("index"), "each index from 0 to 2 once"),
        (lambda body: body.update(data=None), "a list of embeddings in 'data'"),
        (lambda body: body.update(data=["x"] * 3), "each index from 0 to 2 once"),
        (lambda body: body.update(model="text-embedding-3-large"), "text-embedding-3-large"),
        (lambda body: body.update(model=7), "expected vectors of model"),
        (set_vector(1, packed(*ONES[:7])), "expected 8 dimensions, embedding 1 has 7"),
        (set_vector(1, [1.0] * 5), "embedding 1 has 5; where shorter vectors are padded"),
        (set_vector(1, [1.0] * 9), "expected 8 dimensions, embedding 1 has 9"),
        (set_vector(1, [ONES]), "embedding 1 is something else"),
        (set_vector(1, "AAA="), "embedding 1 is something else"),
        (set_vector(1, "!" * 44), "embedding 1 is something else"),
        (set_vector(1, None), "embedding 1 is something else"),
        (set_vector(1, [True] * 8), "embedding 1 is something else"),
        (set_vector(1, packed(*ONES[:7], float("nan"))), "embedding 1 holds NaN or infinity"),
        (set_vector(1, [*ONES[:7], float("inf")]), "embedding 1 holds NaN or infinity"),
        (set_vector(1, [*ONES[:7], 1e300]), "embedding 1 holds NaN or infinity"),
        (set_vector(1, [*ONES[:7], 10**400]), "embedding 1 holds NaN or infinity"),
        (set_vector(2, packed(*[0.0] * 8)), "embedding 2 is all zeros"),
        (set_vector(2, [1e-300] * 8), "embedding 2 is all zeros"),
        (lambda body: one_vector(body), "found the same one for 3 different texts"),
    ],
)
def test_an_answer_that_is_not_as_asked_is_refused_after_two_further_tries(
    server: ProviderServer, change: Callable[[Body], object], words: str
) -> None:
    server.always(Reply(change=change))
    error = failure(embedder(server))
    assert isinstance(error, UntrustworthyResponse)
    assert words in error.reason
    assert len(server.requests) == error.usage.requests == 3
    assert error.usage.tokens == 27  # billed three times, though nothing came of it


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>busy</html>", "expected JSON"),
        (b"", "expected JSON"),
        (b"\xff\xfe", "expected JSON"),
        (b"[" * 12_000, "expected JSON"),
        (b"[]", "expected a JSON object from the provider, found list"),
        (b'{"error": {"message": "busy"}}', "a list of embeddings in 'data'"),
        (b" " * 1_000_000, "found more"),
    ],
)
def test_a_body_that_is_no_answer_is_refused(
    server: ProviderServer, body: bytes, words: str
) -> None:
    server.always(Reply(body=body))
    error = failure(embedder(server))
    assert isinstance(error, UntrustworthyResponse)
    assert words in error.reason


@pytest.mark.parametrize("status", [201, 202, 226])
def test_a_success_of_another_status_is_one(server: ProviderServer, status: int) -> None:
    server.always(Reply(status=status))
    with embedder(server) as asked:
        np.testing.assert_array_equal(asked.embed(TEXTS).vectors, expected(TEXTS))
    server.always(Reply(status=status, body=b""))
    assert "expected JSON" in failure(embedder(server)).reason


def test_one_malformed_answer_is_only_tried_again(server: ProviderServer) -> None:
    server.next(Reply(change=lambda body: body["data"].pop()))
    with embedder(server) as asked:
        embedded = asked.embed(TEXTS)
    np.testing.assert_array_equal(embedded.vectors, expected(TEXTS))
    assert (embedded.usage.requests, embedded.usage.tokens) == (2, 18)


@pytest.mark.parametrize(
    "texts",
    [
        ("the text", "The  TEXT", "the text!", "the t\u00e9xt"),
        ("the text", "the text"),
        ("the text",),
        ("?", "!"),
    ],
)
def test_texts_that_an_uncased_model_takes_for_one_may_have_one_vector(
    server: ProviderServer, texts: tuple[str, ...]
) -> None:
    server.always(Reply(change=one_vector))
    with embedder(server) as asked:
        embedded = asked.embed(texts)
    np.testing.assert_array_equal(embedded.vectors, expected(texts[:1] * len(texts)))


def test_some_different_texts_may_have_one_vector(server: ProviderServer) -> None:
    server.always(Reply(change=lambda body: one_vector({"data": body["data"][:2]})))
    with embedder(server) as asked:
        embedded = asked.embed(TEXTS)
    np.testing.assert_array_equal(embedded.vectors[0], embedded.vectors[1])


@pytest.mark.parametrize(
    ("requested", "answered", "same"),
    [
        ("text-embedding-ada-002", "text-embedding-ada-002", True),
        ("text-embedding-ada-002", "text-embedding-ada-002-v2", True),
        ("openai/text-embedding-3-small", "text-embedding-3-small", True),
        ("text-embedding-3-small", "openai/text-embedding-3-small", True),
        ("text-embedding-ada-002", "text-embedding-ada-002-vx", False),
        ("text-embedding-3-small", "text-embedding-3-large", False),
        ("BAAI/bge-m3", "baai/bge-m3", True),
        ("mistral-embed", "mistral-embed-2312", True),
        ("embed", "embed-2024-02-01", True),
        ("embed", "models/embed-001", True),
        ("embed-2024-02-01", "embed", False),
        ("e5-large", "e5-large-1024", False),
        ("embed-001", "embed-002", False),
        ("openai/e", "other/e", False),
        ("a.b", "axb-v2", False),
        ("e", "", False),
    ],
)
def test_a_model_is_the_same_only_under_a_known_other_spelling(
    requested: str, answered: str, same: bool
) -> None:
    assert same_model(requested, answered) is same


@pytest.mark.parametrize(
    ("answered", "repeated"),
    [
        ("text-embedding-3-large", True),
        ("BAAI/bge-m3", True),
        ("nomic-embed-text:v1.5", True),
        ("hers-v2", True),
        ("hers-has-lupus", False),
        ("aGVycyBoYXMgbHVwdXM=", False),
        ("4111-1111-1111-1111", False),
        ("text embedding", False),
        ("", False),
    ],
)
def test_a_model_is_named_only_in_words_that_models_are_called_by(
    answered: str, repeated: bool
) -> None:
    assert repeatable(answered, beside="hers") is repeated
