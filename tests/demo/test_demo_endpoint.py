"""The offline endpoint speaks OpenAI's protocol, knows whose key it sees and counts by tenant."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import openai
import pytest

from demo.embedding import MODEL, embed
from demo.endpoint import KEYS_VARIABLE, Running, endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = {"acme": "sk-test-acme-000001", "globex": "sk-test-globex-000002"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    record = tmp_path_factory.mktemp("endpoint") / "sent.jsonl"
    with endpoint(KEYS, record=record) as started:
        yield started


def client(running: Running, key: str = KEYS["acme"]) -> openai.OpenAI:
    http = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(api_key=key, base_url=running.base_url, max_retries=0, http_client=http)


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_gives_each_text_its_own_vector_in_order_in_either_encoding(
    running: Running, encoding: str
) -> None:
    texts = ["delete a file", "parse a date", "ключ"]
    # Left to itself the client asks for base64, and decodes it.
    answer = client(running).embeddings.create(
        model=MODEL,
        input=texts,
        encoding_format="float" if encoding == "float" else openai.omit,
    )
    assert [item.index for item in answer.data] == [0, 1, 2]
    for item, text in zip(answer.data, texts, strict=True):
        given = np.asarray(item.embedding, dtype=np.float32)
        assert given.tobytes() == embed(text).tobytes()
    assert answer.model == MODEL
    assert answer.usage.total_tokens > 0


def test_gives_fewer_dimensions_of_unit_norm_when_asked(running: Running) -> None:
    answer = client(running).embeddings.create(model=MODEL, input="a file", dimensions=256)
    vector = np.asarray(answer.data[0].embedding)
    assert vector.shape == (256,)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)


def test_refuses_an_unknown_key_without_repeating_it(running: Running) -> None:
    before = running.stats()
    with pytest.raises(openai.AuthenticationError) as refused:
        client(running, "sk-test-of-nobody-0003").embeddings.create(model=MODEL, input="x")
    assert refused.value.code == "invalid_api_key"
    assert "nobody" not in str(refused.value)
    after = running.stats()
    assert after.refused == before.refused + 1
    assert after.tenants == before.tenants


@pytest.mark.parametrize(
    ("texts", "code"),
    [([], None), (["text", ""], None), (["x"] * 2049, "array_above_max_length")],
    ids=["no text", "an empty text", "2049 texts"],
)
def test_refuses_inputs_that_the_api_refuses(
    running: Running, texts: list[str], code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client(running).embeddings.create(model=MODEL, input=texts)
    assert refused.value.type == "invalid_request_error"
    assert refused.value.code == code


def test_refuses_a_text_longer_than_the_model_takes(running: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length is 8192 tokens"):
        client(running).embeddings.create(model=MODEL, input="word " * 10_000)


def test_does_not_know_a_model_that_does_not_exist(running: Running) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client(running).embeddings.create(model="text-embedding-9", input="x")
    assert refused.value.code == "model_not_found"


def test_counts_requests_and_texts_for_the_tenant_of_the_key(running: Running) -> None:
    before = running.stats().tenants.get("globex")
    assert before is None
    client(running, KEYS["globex"]).embeddings.create(model=MODEL, input=["one", "two"])
    stats = running.stats()
    assert (stats.tenants["globex"].requests, stats.tenants["globex"].texts) == (1, 2)
    assert [sent.text for sent in running.sent() if sent.tenant == "globex"] == ["one", "two"]
    assert not any(key in stats.model_dump_json() for key in KEYS.values())


def test_a_swapped_model_gives_unrelated_vectors_under_the_same_name() -> None:
    with endpoint(KEYS, vectors_of="text-embedding-ada-002") as swapped:
        answer = client(swapped).embeddings.create(model=MODEL, input="delete a file")
    assert answer.model == MODEL
    vector = np.asarray(answer.data[0].embedding)
    assert vector.shape == (1536,)
    assert abs(float(vector @ embed("delete a file"))) < 0.3


def test_the_process_is_gone_after_the_block() -> None:
    with endpoint(KEYS) as short_lived:
        assert short_lived.stats().requests == 0
    with pytest.raises(ConnectionRefusedError):
        short_lived.stats()


def test_does_not_start_without_keys_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    command = [sys.executable, "-m", "demo.endpoint", f"--record={tmp_path / 'none'}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "use --keys-file or DEMO_ENDPOINT_KEYS" in ended.stderr
