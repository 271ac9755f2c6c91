"""Tenants with an endpoint or a model of their own, and Azure's endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from remediation.journal.outcomes import Outcome
from remediation.plan_table import plan_lines
from remediation.provider.endpoint import KeyRow, KeyRowError, OwnEndpoint, key_row
from remediation.provider.errors import KeyRefused, ModelUnavailable, ProviderError
from remediation.provider.keys import Key, KeyRing, MissingKey
from tests.drivers.repairs import docs, environment, examined, key_of, opened, repaired, settings
from tests.servers.embedders import KEY, TEXTS, embedder, expected, failure
from tests.servers.provider_server import MODEL, ProviderServer, Reply, azure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.drivers.repairs import Docs
    from tests.servers.provider_server import Body

ACME, GLOBEX = key_of("acme"), key_of("globex")
BY_SQL = {
    "env": "UNUSED_{tenant}",
    "sql": "SELECT api_key, base_url, model FROM keys WHERE t = %(tenant)s",
}
ALIAS = "our-embeddings"
VERSION = "2024-10-21"


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer() as running:
        yield running


def keys_in(table: Docs, rows: dict[str, tuple[str | None, str | None, str | None]]) -> None:
    """The table that `[keys] sql` reads: api_key, base_url and model of each tenant."""
    table.execute("CREATE TABLE keys (t text, api_key text, base_url text, model text)")
    for tenant, row in rows.items():
        table.execute("INSERT INTO keys VALUES (%s, %s, %s, %s)", (tenant, *row))


def naming(model: str) -> Callable[[Body], object]:
    return lambda body: body.update(model=model)


# What `[keys] sql` returns


@pytest.mark.parametrize(
    ("names", "values", "row"),
    [
        (("k",), ("sk-1",), ("sk-1", None, None)),
        (("k", "u"), ("sk-1", "https://own/v1"), ("sk-1", "https://own/v1", None)),
        (("k", "u", "m"), ("sk-1", None, "alias"), ("sk-1", None, "alias")),
        (("k", "model"), ("sk-1", "alias"), ("sk-1", None, "alias")),
        (("model", "base_url", "api_key"), ("a", "https://o", "sk-1"), ("sk-1", "https://o", "a")),
        (("k", "u", "m"), ("sk-1", "", " "), ("sk-1", None, None)),
    ],
)
def test_columns_are_known_by_their_names_and_else_by_their_order(
    names: tuple[str, ...], values: tuple[str | None, ...], row: tuple[str | None, ...]
) -> None:
    own = OwnEndpoint(base_url=row[1], model=row[2]) if row[1] or row[2] else None
    assert key_row(names, values) == KeyRow(api_key=row[0] or "", own=own)


@pytest.mark.parametrize("values", [(None,), ("",), (None, None, None), ("", "", "")])
def test_a_row_without_a_key_is_none(values: tuple[str | None, ...]) -> None:
    assert key_row(("api_key", "base_url", "model")[: len(values)], values) is None


@pytest.mark.parametrize(
    ("names", "values", "words"),
    [
        (("a", "b", "c", "d"), ("x",) * 4, "found 4 columns"),
        (("model", "model"), ("x", "y"), "found two of one name"),
        (("api_key", "base_url"), (None, "https://own/v1"), "expected an api_key beside"),
        (("api_key", "model"), (b"x", "y"), "expected text as api_key, found bytes"),
        (("api_key", "base_url"), ("x", "ftp://hidden/v1"), "base_url: expected an http or https"),
        (("api_key", "base_url"), ("x", "https://u:hidden@h/v1"), "without credentials"),
        (("api_key", "base_url"), ("x", "https://h/v1?hidden=1"), "api-version"),
        (("api_key", "base_url"), ("x", "https://hidden\x1b[2J/v1"), "visible ASCII"),
        (("api_key", "base_url"), ("x", f"https://h/{'hidden' * 9_999}"), "at most 2,000"),
        (("api_key", "base_url"), ("x", "https://[v1.hidden]/"), "check its host and port"),
    ],
)
def test_a_row_that_cannot_be_used_says_why_and_shows_no_value(
    names: tuple[str, ...], values: tuple[Any, ...], words: str
) -> None:
    with pytest.raises(KeyRowError) as caught:
        key_row(names, values)
    assert words in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_row_that_cannot_be_used_ends_the_search_for_its_tenant_alone() -> None:
    def lookup(tenant: str) -> KeyRow | None:
        if tenant == "acme":
            raise KeyRowError("base_url: expected a URL")
        return KeyRow(api_key="sk-own-1", own=OwnEndpoint(model=ALIAS))

    keys = KeyRing(
        env=None,
        sql_lookup=lookup,
        command=None,
        fallback_env="PLATFORM",
        environ={"PLATFORM": "sk-platform"},
        known_tenants=(),
    )
    missing, found = keys.find("acme"), keys.find("globex")
    assert isinstance(missing, MissingKey)
    assert missing.reason == "[keys] sql failed for tenant 'acme': base_url: expected a URL"
    assert isinstance(found, Key)
    assert found.own == OwnEndpoint(model=ALIAS)


# Tenants with their own


def test_each_tenants_texts_go_to_its_own_endpoint_with_its_own_key_alone(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with (
        docs(database, {"acme": (1, 20), "globex": (1, 20), "initech": (1, 5)}) as table,
        ProviderServer() as own,
    ):
        own.always(Reply(change=naming(ALIAS)))
        keys_in(
            table,
            {
                "acme": (ACME, None, None),
                "globex": (GLOBEX, own.base_url, ALIAS),
                "initech": (key_of("initech"), "http://user:hunter2@127.0.0.1/v1", None),
            },
        )
        # What overrides the settings' endpoint overrides no tenant's own.
        environment = {"OPENAI_BASE_URL": server.base_url}
        chosen = settings("http://127.0.0.1:1/v1", keys=BY_SQL)
        with opened(database, chosen, keys=environment) as repair:
            lines = list(plan_lines(repair.plan(), place="here", dry_run=True))
        host = own.base_url.removeprefix("http://").removesuffix("/v1")
        (line,) = [line for line in lines if "tenant 'globex'" in line]
        assert line.endswith(f"  at {host}, model {ALIAS}")
        (line,) = [line for line in lines if "tenant 'acme'" in line]
        assert " at " not in line
        done = repaired(database, chosen, tmp_path, keys=environment)
        assert done.counts() == {"selected": 45, "fixed": 40, "failed": 5}
        (reason,) = done.reasons(Outcome.FAILED)
        assert reason.startswith("[keys] sql failed: base_url: expected a URL")
        assert "hunter2" not in reason
        assert {request.key for request in server.requests} == {ACME}
        assert {request.key for request in own.requests} == {GLOBEX}
        assert all(text.endswith("of acme") for text in server.texts)
        assert all(text.endswith("of globex") for text in own.texts)
        assert {request.body["model"] for request in server.requests} == {MODEL}
        assert {request.body["model"] for request in own.requests} == {ALIAS}


def test_two_tenants_with_one_key_and_two_endpoints_share_no_endpoint(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 9), "globex": (1, 9)}) as table, ProviderServer() as own:
        keys_in(table, {"acme": (ACME, None, None), "globex": (ACME, own.base_url, None)})
        done = repaired(database, settings(server, keys=BY_SQL), tmp_path, keys={})
        assert done.counts() == {"selected": 18, "fixed": 18}
        assert all(text.endswith("of acme") for text in server.texts)
        assert all(text.endswith("of globex") for text in own.texts)


def test_an_own_endpoint_that_disagrees_with_what_is_stored_stops_its_tenant_alone(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with (
        docs(database, {"acme": (2, 9), "globex": (2, 9)}) as table,
        ProviderServer(model="another-model") as own,
    ):
        keys_in(
            table, {"acme": (ACME, None, None), "globex": (GLOBEX, own.base_url, "another-model")}
        )
        done = repaired(database, settings(server, keys=BY_SQL), tmp_path, keys={})
        assert done.counts() == {"selected": 18, "fixed": 9, "failed": 9}
        (reason,) = done.reasons(Outcome.FAILED)
        assert reason.startswith("the probe refused: healthy rows, embedded again by this tenant's")
        assert done.docs.stopped is None
        assert len(own.requests) == 5  # the probe, the same texts twice, and their variants in two


@pytest.mark.parametrize(
    ("answered", "fixed"), [(MODEL, 20), (f"openai/{MODEL}", 20), (ALIAS, 10), ("other", 10)]
)
def test_nothing_is_stamped_with_a_model_that_the_answer_does_not_name(
    database: str, tmp_path: Path, server: ProviderServer, answered: str, fixed: int
) -> None:
    with docs(database, {"acme": (0, 10), "globex": (0, 10)}) as table, ProviderServer() as own:
        table.execute("ALTER TABLE docs ADD model text")
        own.always(Reply(change=naming(answered)))
        keys_in(table, {"acme": (ACME, None, None), "globex": (GLOBEX, own.base_url, ALIAS)})
        chosen = settings(server, keys=BY_SQL, table={"model_column": "model"})
        done = repaired(database, chosen, tmp_path, keys={})
        assert done.counts().get("fixed") == fixed
        assert table.execute("SELECT DISTINCT model FROM docs WHERE embedding IS NOT NULL") == [
            (MODEL,)
        ]
        if answered == ALIAS:
            (reason,) = done.reasons(Outcome.FAILED)
            assert reason.startswith(f"the tenant's endpoint answers as model '{ALIAS}', not as")
            assert len(own.requests) == 1


def test_without_a_model_column_either_name_is_an_answer(server: ProviderServer) -> None:
    for answered in (MODEL, ALIAS, f"{MODEL}-v2"):
        server.next(Reply(change=naming(answered)))
        with embedder(server, model=ALIAS, declared=MODEL) as asked:
            np.testing.assert_array_equal(asked.embed(TEXTS).vectors, expected(TEXTS))
    server.always(Reply(change=naming("text-embedding-3-large")))
    error = failure(embedder(server, model=ALIAS, declared=MODEL))
    assert error.reason.startswith(
        f"expected vectors of model '{ALIAS}' or '{MODEL}', found 'text-embedding-3-large';"
    )


def test_what_a_tenants_endpoint_does_not_know_is_told_with_the_settings_to_check(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (0, 3)}) as table:
        server.always(Reply(status=404, error={"code": "model_not_found"}))
        keys_in(table, {"acme": (ACME, server.base_url, ALIAS)})
        done = repaired(database, settings(server, keys=BY_SQL), tmp_path, keys={})
        (reason,) = done.reasons(Outcome.FAILED)
        assert "check base_url and model of [keys] sql" in reason


# Tenants with another declared model


def test_a_tenants_declared_model_is_asked_for_checked_and_stamped(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    large = "text-embedding-3-large"
    with docs(database, {"acme": (2, 6), "globex": (2, 6)}) as table:
        server.always(lambda request: Reply(change=naming(request.body["model"])))
        table.execute(f"ALTER TABLE docs ADD model varchar(40) DEFAULT '{MODEL}'")
        chosen = settings(
            server, table={"model_column": "model", "tenant_models": {"globex": large}}
        )
        before = examined(database, chosen)
        failing = {m.segment.tenant: m.failing["provenance"] for m in before.measurements}
        assert failing == {"acme": 0, "globex": 2}
        keys = environment("acme", "globex")
        with opened(database, chosen, keys=keys) as repair:
            lines = list(plan_lines(repair.plan(), place="here", dry_run=True))
        (line,) = [line for line in lines if "tenant 'globex'" in line]
        assert line.endswith(f"  model {large}")
        done = repaired(database, chosen, tmp_path, keys=keys)
        assert done.counts() == {"selected": 14, "fixed": 14}
        assert table.execute(
            "SELECT tenant, model, count(*) FROM docs GROUP BY 1, 2 ORDER BY 1"
        ) == [("acme", MODEL, 8), ("globex", large, 8)]
        assert {(request.key, request.body["model"]) for request in server.requests} == {
            (ACME, MODEL),
            (GLOBEX, large),
        }
        assert done.after is not None
        assert done.after.findings == ()


# Azure


def test_azure_is_asked_at_its_deployment_with_its_own_header(server: ProviderServer) -> None:
    server.always(azure("emb", VERSION, KEY))
    url = f"{server.origin}/openai/deployments/emb?api-version={VERSION}"
    with embedder(server, base_url=url) as asked:
        np.testing.assert_array_equal(asked.embed(TEXTS).vectors, expected(TEXTS))
    [request] = server.requests
    assert request.headers["api-key"] == KEY
    assert "authorization" not in request.headers


@pytest.mark.parametrize("path", ["", "/", "/openai", "/openai/"])
def test_without_a_deployment_in_the_url_azures_is_called_like_the_model(
    server: ProviderServer, path: str
) -> None:
    server.always(azure(MODEL, VERSION, KEY))
    with embedder(server, base_url=f"{server.origin}{path}?api-version={VERSION}") as asked:
        np.testing.assert_array_equal(asked.embed(TEXTS).vectors, expected(TEXTS))


@pytest.mark.parametrize("query", ["", "?api-version=preview"])
def test_azures_newer_path_is_asked_as_openai_is(server: ProviderServer, query: str) -> None:
    with embedder(server, base_url=f"{server.origin}/openai/v1{query}") as asked:
        asked.embed(TEXTS)
    [request] = server.requests
    assert request.path == f"/openai/v1/embeddings{query}"
    assert request.key == KEY


def test_azure_gets_no_key_from_the_environment(
    server: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "platform")
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", "platform")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "http://127.0.0.1:1/")
    monkeypatch.setenv("OPENAI_API_VERSION", "2000-01-01")
    monkeypatch.setenv("OPENAI_ORG_ID", "platform")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer platform\napi-key: platform")
    server.always(azure("emb", VERSION, KEY))
    url = f"{server.origin}/openai/deployments/emb?api-version={VERSION}"
    with embedder(server, base_url=url) as asked:
        asked.embed(TEXTS)
    assert "platform" not in str(dict(server.requests[0].headers))


@pytest.mark.parametrize(
    ("path", "key", "kind", "words"),
    [
        ("/openai/deployments/emb", "wrong-key-0000", KeyRefused, "provider answered 401"),
        ("/openai/deployments/gone", KEY, ModelUnavailable, "404 (DeploymentNotFound)"),
        ("/openai/deployments/emb/v1", KEY, ModelUnavailable, "404 (DeploymentNotFound)"),
    ],
)
def test_azures_refusals_are_sorted_as_openais(
    server: ProviderServer, path: str, key: str, kind: type[ProviderError], words: str
) -> None:
    server.always(azure("emb", VERSION, KEY))
    asked = embedder(server, key=key, base_url=f"{server.origin}{path}?api-version={VERSION}")
    error = failure(asked)
    assert type(error) is kind
    assert words in error.reason
    assert len(server.requests) == 1


def test_azures_rate_limit_is_waited_for(server: ProviderServer) -> None:
    server.next(
        Reply(
            status=429,
            headers={"retry-after": "1", "retry-after-ms": "20"},
            error={"code": "429", "message": "Requests have exceeded call rate limit."},
        )
    )
    url = f"{server.origin}/openai/deployments/emb?api-version={VERSION}"
    with embedder(server, base_url=url) as asked:
        assert asked.embed(TEXTS).usage.requests == 2


def test_a_tenants_own_azure_endpoint_is_used_beside_the_settings(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 6), "globex": (1, 6)}) as table, ProviderServer() as own:
        own.always(azure("globex-emb", VERSION, GLOBEX))
        url = f"{own.origin}?api-version={VERSION}"
        keys_in(table, {"acme": (ACME, None, None), "globex": (GLOBEX, url, "globex-emb")})
        done = repaired(database, settings(server, keys=BY_SQL), tmp_path, keys={})
        assert done.counts() == {"selected": 12, "fixed": 12}
        assert table.wrong() == []
        assert {request.headers["api-key"] for request in own.requests} == {GLOBEX}
