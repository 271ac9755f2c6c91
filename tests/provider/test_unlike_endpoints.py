"""Healthy endpoints that answer otherwise than OpenAI does, each through a whole repair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checks.errors import SettingsError
from checks.settings.integrity_toml import settings_in
from remediation.run.preflight import RepairRefusedError
from tests.provider_server import ProviderServer, Reply
from tests.repairs import docs, environment, key_of, repaired, settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.provider_server import Body, ReceivedRequest
    from tests.repairs import Docs

KEYS = environment("acme")


@pytest.fixture
def table(database: str) -> Iterator[Docs]:
    with docs(database, {"acme": (3, 12)}) as table:
        yield table


def test_an_endpoint_that_refuses_base64_is_asked_for_floats_from_then_on(
    database: str, tmp_path: Path, table: Docs
) -> None:
    def rule(request: ReceivedRequest) -> Reply | None:
        if request.body["encoding_format"] == "float":
            return None
        error = {"message": "Unexpected value 'base64' for parameter", "code": 422}
        return Reply(status=422, error=error)

    with ProviderServer(encoding="float") as server:
        server.always(rule)
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 12, "fixed": 12}
        assert table.wrong() == []
        asked = [request.body["encoding_format"] for request in server.requests]
        assert asked == ["base64", *["float"] * (len(asked) - 1)]


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


def test_an_alias_may_be_answered_under_declared_names_alone(
    database: str, tmp_path: Path, table: Docs
) -> None:
    with ProviderServer() as server:
        server.always(Reply(change=lambda answer: answer.update(model="acme/e5@q8")))
        refused = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert "answered_models" in (refused.docs.stopped or "")
        chosen = settings(server, provider={"answered_models": ["acme/e5@q8"]})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 12, "fixed": 12}
        assert table.wrong() == []


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
