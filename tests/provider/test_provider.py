"""What is asked of the provider over real HTTP, and what is kept from being shown."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from remediation.provider.endpoint import Endpoint
from remediation.provider.errors import (
    InputRejected,
    KeyRefused,
)
from remediation.provider.usage import NOTHING, Usage
from tests.servers.embedders import KEY, TEXTS, embedder, expected, failure
from tests.servers.provider_server import MODEL, ProviderServer, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer(keys={KEY}) as running:
        yield running


# What is asked, and what comes back


COUNTED = 15
"""Tokens of the three texts by the estimate; the server bills 9."""


def test_vectors_come_back_in_the_order_of_the_texts(server: ProviderServer) -> None:
    with embedder(server) as asked:
        embedded = asked.embed(TEXTS)
    np.testing.assert_array_equal(embedded.vectors, expected(TEXTS))
    assert embedded.vectors.dtype == np.float32
    assert embedded.usage == Usage(requests=1, tokens=9)
    assert embedded.usage.tokens_are_known
    [request] = server.requests
    assert request.path == "/v1/embeddings"
    assert request.key == KEY
    assert request.body == {"input": list(TEXTS), "model": MODEL, "encoding_format": "base64"}


def test_dimensions_are_sent_only_when_declared(server: ProviderServer) -> None:
    with embedder(server, send_dimensions=True) as asked:
        asked.embed(["text"])
    assert server.requests[0].body["dimensions"] == 8


def test_vectors_as_json_lists_are_understood() -> None:
    with ProviderServer(encoding="float") as server, embedder(server) as asked:
        np.testing.assert_array_equal(asked.embed(TEXTS).vectors, expected(TEXTS))


def test_a_shuffled_answer_is_put_right_by_its_indexes(server: ProviderServer) -> None:
    server.next(Reply(change=lambda body: body["data"].reverse()))
    with embedder(server) as asked:
        np.testing.assert_array_equal(asked.embed(TEXTS).vectors, expected(TEXTS))


def test_an_answer_that_does_not_say_its_tokens_is_reckoned_as_we_count(
    server: ProviderServer,
) -> None:
    server.next(Reply(change=lambda body: body.pop("usage")))
    with embedder(server) as asked:
        embedded = asked.embed(TEXTS)
    assert embedded.usage == Usage(requests=1, unsaid=COUNTED)
    assert not embedded.usage.tokens_are_known


@pytest.mark.parametrize(
    "useless",
    [
        Reply(body=b"<html>welcome</html>"),
        Reply(body=b" " * 1_000_000),
        Reply(cut=40),
        Reply(change=lambda body: (body.pop("usage"), body.pop("data"))),
    ],
    ids=["not JSON", "too long", "cut off", "no vectors"],
)
def test_what_a_useless_answer_took_is_reckoned_beside_what_the_next_one_says(
    server: ProviderServer, useless: Reply
) -> None:
    server.next(useless)
    with embedder(server) as asked:
        embedded = asked.embed(TEXTS)
    assert embedded.usage == Usage(requests=2, unanswered=1, tokens=9, unsaid=COUNTED)
    assert embedded.usage.reckoned == 9 + COUNTED


def test_a_refusal_takes_nothing(server: ProviderServer) -> None:
    server.always(Reply(status=503))
    error = failure(embedder(server))
    assert error.usage == Usage(requests=6, unanswered=6)


def test_only_the_given_key_is_sent_whatever_the_environment_holds(
    server: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-platform")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-platform")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-platform")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv(
        "OPENAI_CUSTOM_HEADERS",
        "Authorization: Bearer sk-platform\nopenai-organization: org-platform\nX-Gateway: yes",
    )
    with embedder(server) as asked:
        asked.embed(TEXTS)
    [request] = server.requests
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["x-gateway"] == "yes"
    assert "platform" not in json.dumps(dict(request.headers))
    assert "sk-admin" not in json.dumps(dict(request.headers))


def test_many_threads_share_one_embedder(server: ProviderServer) -> None:
    texts = [[f"text {number} of {part}" for part in range(3)] for number in range(40)]
    with embedder(server) as asked, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(asked.embed, texts))
    for each, answer in zip(texts, answers, strict=True):
        np.testing.assert_array_equal(answer.vectors, expected(each))


def test_embed_itself_refuses_an_empty_text_without_a_request(server: ProviderServer) -> None:
    error = failure(embedder(server), ["good", ""])
    assert isinstance(error, InputRejected)
    assert error.usage == NOTHING
    assert server.requests == []


def test_no_texts_at_all_is_a_mistake_of_the_caller(server: ProviderServer) -> None:
    with embedder(server) as asked, pytest.raises(ValueError, match="expected at least one text"):
        asked.embed([])


# What is shown


TOLD = base64.b64encode(TEXTS[0].encode()).decode().rstrip("=")
"""A text in a disguise that looks like a code; another script or another case would do as well."""


@pytest.mark.parametrize("name", ["code", "type", "message", "param"])
@pytest.mark.parametrize("status", [400, 401, 404, 503])
def test_no_word_of_a_refusal_is_repeated_but_a_known_code(
    server: ProviderServer, status: int, name: str
) -> None:
    told = {"code": "rate_limit_exceeded", "type": "requests", "message": "no", "param": "input"}
    server.always(Reply(status=status, error={**told, name: TOLD}))
    reason = failure(embedder(server)).reason
    assert TOLD not in reason
    assert ("rate_limit_exceeded" in reason) is (name != "code")


@pytest.mark.parametrize(
    "body", [b'{"error": "no such"}', b'{"message": "no such"}', b"no such", b'{"error": {}}']
)
def test_a_refusal_of_any_other_shape_is_told_by_its_status(
    server: ProviderServer, body: bytes
) -> None:
    server.always(Reply(status=503, body=body))
    assert failure(embedder(server)).reason == "provider answered 503"


@pytest.mark.parametrize("model", [f"{TEXTS[0]} {KEY}", TEXTS[0], KEY])
@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
def test_neither_key_nor_text_is_in_the_traceback_or_the_log(
    server: ProviderServer, caplog: pytest.LogCaptureFixture, status: int, model: str
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = json.dumps({"error": {"message": f"{KEY} {TEXTS[0]}"}, "model": model})
    server.always(Reply(status=status, body=echo.encode()))
    asked = embedder(server)
    error = failure(asked)
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(asked) + caplog.text
    assert KEY not in shown
    assert TEXTS[0] not in shown
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize("fault", [Reply(status=403), Reply(status=503), Reply(body=b"")])
def test_a_traceback_ends_before_the_frames_that_hold_the_request(
    server: ProviderServer, fault: Reply
) -> None:
    server.always(fault)
    frames = traceback.extract_tb(failure(embedder(server)).__traceback__)
    assert frames[-1].name == "embed"


def test_a_lost_connection_leaves_no_request_in_the_traceback(server: ProviderServer) -> None:
    server.always(Reply(cut=-1))
    error = failure(embedder(server))
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize("key", ["", " ", "sk-\n", "sk-ключ"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(
    server: ProviderServer, key: str
) -> None:
    with pytest.raises(KeyRefused, match="the key is empty or holds characters"):
        embedder(server, key=key)


@pytest.mark.parametrize(
    "url", ["api.openai.com/v1", "ftp://host/v1", "https://user:hunter2@host/v1", "https://[x", ""]
)
def test_a_base_url_that_is_not_plain_http_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="expected a") as caught:
        Endpoint(base_url=url, model=MODEL, dimensions=8)
    assert "hunter2" not in str(caught.value)
