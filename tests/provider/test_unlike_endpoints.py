"""Healthy endpoints that answer otherwise than OpenAI does, each through a whole repair."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from checks.errors import SettingsError
from checks.settings.integrity_toml import settings_in
from remediation.journal.outcomes import Outcome
from remediation.provider.bisection import embed_isolating
from remediation.run.preflight import RepairRefusedError
from tests.drivers.repairs import docs, environment, key_of, repaired, settings
from tests.servers.embedders import TEXTS, embedder, expected
from tests.servers.provider_server import MODEL, ProviderServer, Reply, vector_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.drivers.repairs import Docs
    from tests.servers.provider_server import Body, ReceivedRequest

KEYS = environment("acme")
ENCODING = "encoding_format"


@pytest.fixture
def table(database: str) -> Iterator[Docs]:
    with docs(database, {"acme": (3, 12)}) as table:
        yield table


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (422, {"message": "Unexpected value 'base64' for parameter", "code": 422}),
        (500, {"message": "encoding-format must be float"}),
        (400, {"message": "The parameter is incorrect."}),
        (422, {}),
    ],
)
def test_an_endpoint_that_refuses_base64_is_asked_for_floats_from_then_on(
    status: int, error: dict[str, object]
) -> None:
    def rule(request: ReceivedRequest) -> Reply | None:
        if request.body["encoding_format"] == "float":
            return None
        return Reply(status=status, error=error)

    with ProviderServer(encoding="float") as server:
        server.always(rule)
        with embedder(server) as asking:
            for _ in range(2):
                embedded = embed_isolating(asking, TEXTS)
                np.testing.assert_array_equal(np.stack(embedded.outcomes), expected(TEXTS))  # type: ignore[arg-type]
        asked = [request.body["encoding_format"] for request in server.requests]
        # Where nothing is said of it, a harmless text shows that no text is to blame.
        assert asked in (
            ["base64", "float", "float"],
            ["base64", "base64", "float", "float", "float"],
        )


@pytest.mark.parametrize(
    "body",
    [
        b'{"detail":[{"type":"extra_forbidden","loc":["body","encoding_format"]}]}',
        b'{"message":"UnsupportedParamsError: does not support parameters: {\'encoding_format\'}"}',
        b'{"error":"invalid request"}',
    ],
)
def test_an_endpoint_that_does_not_know_encoding_format_is_asked_without_it_from_then_on(
    body: bytes,
) -> None:
    with ProviderServer(encoding="float") as server:
        refused = Reply(status=400, body=body)
        server.always(lambda request: refused if ENCODING in request.body else None)
        with embedder(server) as asking:
            for _ in range(2):
                embedded = embed_isolating(asking, TEXTS)
                np.testing.assert_array_equal(np.stack(embedded.outcomes), expected(TEXTS))  # type: ignore[arg-type]
        asked = [request.body.get(ENCODING) for request in server.requests]
        assert [form for form in asked if form] in (
            ["base64", "float"],
            ["base64", "base64", "float"],
        )


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: [item.update(index=str(item["index"])) for item in answer["data"]],
        lambda answer: [item.update(index=None) for item in answer["data"]],
        lambda answer: [item.update(index=item["index"] + 1) for item in answer["data"]],
        lambda answer: (
            [item.update(index=str(item["index"] + 1)) for item in answer["data"]],
            answer["data"].reverse(),
        ),
        lambda answer: [item.update(index=float(item["index"])) for item in answer["data"]],
        lambda answer: [
            item.update(embedding=[repr(n) for n in vector_of(text).tolist()])
            for item, text in zip(answer["data"], TEXTS, strict=True)
        ],
        lambda answer: answer.update(model=MODEL.upper()),
        lambda answer: answer.update(model=f"models/{MODEL}-2026-01-15"),
        lambda answer: [item.update(index=0) for item in answer["data"]],
        lambda answer: answer.pop("model"),
        lambda answer: answer.update(model=""),
        lambda answer: answer.update(model=f"{MODEL}:latest"),
        lambda answer: answer.pop("usage"),
        lambda answer: answer.update(usage={"total_tokens": None, "prompt_tokens": "9"}),
        lambda answer: answer.update(object=None, usage=[], extra={"cached": True}),
    ],
)
def test_what_an_answer_leaves_out_or_writes_otherwise_is_no_fault(
    change: Callable[[Body], object],
) -> None:
    with ProviderServer() as server, embedder(server) as asking:
        server.always(Reply(change=change))
        embedded = asking.embed(TEXTS)
        np.testing.assert_array_equal(embedded.vectors, expected(TEXTS))
        assert embedded.usage.requests == 1


def test_a_parameter_that_a_provider_asks_for_is_named() -> None:
    with ProviderServer() as server:
        words = "'input_type' parameter is required for asymmetric models, sk-1 the first text"
        server.always(Reply(status=400, body=json.dumps({"detail": words}).encode()))
        with embedder(server) as asking:
            refused = embed_isolating(asking, TEXTS).failure
    assert str(refused) == (
        "provider refuses any text, check the [provider] settings: provider answered 400, which"
        " names input_type"
    )


def test_another_model_in_one_answer_is_asked_again_and_none_of_it_is_written(
    database: str, tmp_path: Path, table: Docs
) -> None:
    """A gateway that falls back to another model now and then."""

    def rule(request: ReceivedRequest) -> Reply | None:
        turn = len(server.requests)
        other = turn == 3 or any("document 9 " in text for text in request.texts)
        return Reply(change=lambda answer: answer.update(model="fallback")) if other else None

    with ProviderServer() as server:
        server.always(rule)
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 12, "fixed": 11, "failed": 1}
        assert table.wrong() == [9]


def test_an_answer_without_a_model_is_refused_where_its_name_would_be_stamped(
    database: str, tmp_path: Path, table: Docs
) -> None:
    table.execute("ALTER TABLE docs ADD model text")
    table.execute("UPDATE docs SET model = %s WHERE embedding IS NOT NULL", (MODEL,))
    stamped = {"model_column": "model"}
    with ProviderServer() as server:
        server.always(Reply(change=lambda answer: answer.pop("model")))
        refused = repaired(database, settings(server, table=stamped), tmp_path, keys=KEYS)
        assert 'answered_models = [""]' in (refused.docs.stopped or "")
        chosen = settings(server, table=stamped, provider={"answered_models": [""]})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 12, "fixed": 12}


@pytest.mark.parametrize("reverse", [False, True])
def test_items_without_an_index_are_in_order_and_the_probe_sees_another(
    database: str, tmp_path: Path, table: Docs, reverse: bool
) -> None:
    def without(answer: Body) -> None:
        for item in answer["data"]:
            del item["index"]
        if reverse:
            answer["data"].reverse()

    with ProviderServer() as server:
        server.always(Reply(change=without))
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        if reverse:
            assert done.counts() == {"selected": 12, "skipped": 12}
            assert "the probe refused" in (done.docs.stopped or "")
        else:
            assert done.counts() == {"selected": 12, "fixed": 12}
            assert table.wrong() == []


def test_an_alias_may_be_answered_under_declared_names_alone_where_nothing_is_compared(
    database: str, tmp_path: Path, table: Docs
) -> None:
    unproven: dict[str, object] = {"repair": {"probe": 0}}
    with ProviderServer() as server:
        server.always(Reply(change=lambda answer: answer.update(model="acme/e5@q8")))
        refused = repaired(database, settings(server, **unproven), tmp_path, keys=KEYS)
        assert "answered_models" in str(refused.reasons(Outcome.FAILED))
        chosen = settings(server, provider={"answered_models": ["acme/e5@q8"]}, **unproven)
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 12, "fixed": 12}
        assert table.wrong() == []


@pytest.mark.parametrize("stamped", [False, True])
def test_an_alias_is_proven_by_vectors_that_agree_and_no_other_name_then(
    database: str, tmp_path: Path, table: Docs, stamped: bool
) -> None:
    if stamped:
        table.execute("ALTER TABLE docs ADD model text")
        table.execute("UPDATE docs SET model = %s WHERE embedding IS NOT NULL", (MODEL,))
    said: list[str] = []

    def rule(request: ReceivedRequest) -> Reply:
        other = any("document 9 " in text for text in request.texts)
        name = "e5-large" if other else "BAAI/bge-m3"
        return Reply(change=lambda answer: answer.update(model=name))

    with ProviderServer() as server:
        server.always(rule)
        chosen = settings(server, table={"model_column": "model"} if stamped else {})
        done = repaired(database, chosen, tmp_path, keys=KEYS, on_pause=said.append)
        assert done.counts() == {"selected": 12, "fixed": 11, "failed": 1}
        assert "found 'e5-large'" in str(done.reasons(Outcome.FAILED))
        assert table.wrong() == [9]
        (words,) = said
        assert "answers as 'BAAI/bge-m3' where 'text-embedding-3-small' is asked" in words


def test_an_alias_is_not_proven_by_another_model_s_vectors(
    database: str, tmp_path: Path, table: Docs
) -> None:
    before = table.versions()
    with ProviderServer(model="another-model") as server:
        server.always(Reply(change=lambda answer: answer.update(model="BAAI/bge-m3")))
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 12, "skipped": 12}
        assert "the probe refused" in (done.docs.stopped or "")
        assert "answered as 'BAAI/bge-m3'" in (done.docs.stopped or "")
        assert table.versions() == before


def test_further_parameters_go_with_each_request_and_secrets_come_from_the_environment(
    database: str, tmp_path: Path, table: Docs
) -> None:
    extra: dict[str, object] = {
        "extra_body": {"task": "retrieval.passage", "truncate": 0.5},
        "extra_headers": {"X-Gateway": "key ${GATEWAY}"},
    }
    with ProviderServer() as server:
        chosen = settings(server, provider=extra)
        with pytest.raises(RepairRefusedError, match="GATEWAY is not set"):
            repaired(database, chosen, tmp_path, keys=KEYS)
        done = repaired(database, chosen, tmp_path, keys=KEYS | {"GATEWAY": "s3cret-of-gate"})
        assert done.counts() == {"selected": 12, "fixed": 12}
        assert table.wrong() == []
        for request in server.requests:
            assert request.body["task"] == "retrieval.passage"
            assert request.headers["x-gateway"] == "key s3cret-of-gate"
            assert request.key == key_of("acme")


@pytest.mark.parametrize(
    "extra", [{"extra_body": {"input": "x"}}, {"extra_headers": {"Authorization": "x"}}]
)
def test_what_a_request_says_itself_is_no_further_parameter(extra: dict[str, object]) -> None:
    content = {"provider": extra, "tables": [{"name": "docs", "text": "body"}]}
    with pytest.raises(SettingsError, match="each request sets itself"):
        settings_in(content, row_checks=(), named="integrity.toml")
