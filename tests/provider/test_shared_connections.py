"""Tenants that share an endpoint share its connections, and nothing else."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydantic import SecretStr

from remediation.provider import embedders as lending
from remediation.provider.embedders import Embedders
from remediation.provider.endpoint import Endpoint, KeyRow, OwnEndpoint
from remediation.provider.errors import KeyRefused, ProviderUnavailable
from remediation.provider.keys import KeyRing
from remediation.provider.openai_compatible.embeddings import OpenAIEmbeddings
from remediation.provider.protocol import TryFailed
from remediation.provider.rate_limits import RateLimits
from remediation.provider.retry import RetryPolicy
from remediation.provider.tokens import EstimatedTokens
from tests.servers.embedders import SOON, expected
from tests.servers.provider_server import MODEL, ProviderServer, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remediation.provider.protocol import EmbeddingProvider
    from tests.servers.provider_server import ReceivedRequest

TENANTS = tuple(f"tenant-{number:02}" for number in range(20))
KEYS = {tenant: f"sk-{tenant}-Q{number:02}xW7" for number, tenant in enumerate(TENANTS)}
THREADS = 8
ROUNDS = 12
"""Requests of each tenant."""
VERSION = "2024-10-21"


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer() as running:
        yield running


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment may hold that the client's library would send by itself."""
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_ADMIN_KEY",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
        "AZURE_OPENAI_API_KEY",
        "AZURE_OPENAI_AD_TOKEN",
    ):
        monkeypatch.setenv(name, "platform")
    monkeypatch.setenv(
        "OPENAI_CUSTOM_HEADERS",
        "authorization: Bearer platform\nAPI-Key: platform\nOpenAI-Organization: platform"
        "\nX-Gateway: yes",
    )


def lender(
    base_url: str,
    *,
    provider_at: Callable[[Endpoint], EmbeddingProvider] = OpenAIEmbeddings,
    own: Callable[[str], str] | None = None,
    retry: RetryPolicy = SOON,
) -> Embedders:
    """Lends for all `TENANTS`; `own` is the base URL of each, where it has one."""
    return Embedders(
        Endpoint(base_url=base_url, model=MODEL, dimensions=8),
        KeyRing(
            env=None,
            sql_lookup=lambda tenant: KeyRow(
                api_key=KEYS.get(tenant, f"sk-{tenant}"),
                own=OwnEndpoint(base_url=own(tenant)) if own else None,
            ),
            command=None,
            fallback_env=None,
            environ={},
            known_tenants=TENANTS,
        ),
        provider_at=provider_at,
        stop=threading.Event(),
        limits=RateLimits(),
        counter=EstimatedTokens(),
        models={},
        retry=retry,
    )


def texts_of(tenant: str, number: int) -> tuple[str, ...]:
    return tuple(f"text {part} of request {number} of {tenant}" for part in range(3))


def assert_each_text_came_with_its_tenants_key_alone(
    requests: list[ReceivedRequest], header: str
) -> None:
    for request in requests:
        (tenant,) = {text.rpartition(" ")[2] for text in request.texts}
        key = KEYS[tenant]
        assert request.headers[header] == (f"Bearer {key}" if header == "authorization" else key)
        everything = json.dumps([dict(request.headers), request.path, request.body])
        assert [each for each in KEYS.values() if each in everything] == [key]
        assert "platform" not in everything
        assert request.headers["x-gateway"] == "yes"


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(
    ("path", "header", "other"),
    [
        ("/v1", "authorization", "api-key"),
        (f"/openai/deployments/emb?api-version={VERSION}", "api-key", "authorization"),
        (f"/openai/v1?api-version={VERSION}", "authorization", "api-key"),
    ],
    ids=["OpenAI", "Azure", "Azure's newer path"],
)
def test_twenty_tenants_share_the_connections_of_eight_threads_and_no_key(
    server: ProviderServer, path: str, header: str, other: str
) -> None:
    # Every seventh request fails in a way that leaves its connection open, and is made again.
    faults = [
        Reply(status=503),
        Reply(status=429, headers={"retry-after-ms": "1"}),
        Reply(body=b"<html>welcome</html>"),
    ]

    def rule(_: ReceivedRequest) -> Reply:
        number = len(server.requests)
        return faults[number // 7 % len(faults)] if number % 7 == 0 else Reply(pause=0.002)

    server.always(rule)
    patient = RetryPolicy(base_delay=0.001, attempts=50, untrustworthy_attempts=50)
    embedders = lender(server.origin + path, retry=patient)

    def ask(work: tuple[str, int]) -> None:
        tenant, number = work
        texts = texts_of(tenant, number)
        with embedders.lend(tenant) as embedder:
            vectors = embedder.embed(texts).vectors
        np.testing.assert_array_equal(vectors, expected(texts))

    works = [(tenant, number) for number in range(ROUNDS) for tenant in TENANTS]
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(ask, works))
    embedders.close()
    assert {text for request in server.requests for text in request.texts} == {
        text for work in works for text in texts_of(*work)
    }
    assert_each_text_came_with_its_tenants_key_alone(server.requests, header)
    assert not any(other in request.headers for request in server.requests)
    assert server.connections <= THREADS


def test_one_endpoint_is_one_connection_for_tenants_that_follow_each_other(
    server: ProviderServer,
) -> None:
    embedders = lender(server.base_url)
    for tenant in TENANTS:
        with embedders.lend(tenant) as embedder:
            embedder.embed(texts_of(tenant, 0))
    embedders.close()
    assert [request.key for request in server.requests] == list(KEYS.values())
    assert server.connections == 1


def test_a_cookie_of_one_tenants_answer_goes_out_with_no_request(server: ProviderServer) -> None:
    server.always(Reply(headers={"Set-Cookie": "session=of-the-first; Path=/"}))
    embedders = lender(server.base_url)
    for tenant in TENANTS[:3]:
        with embedders.lend(tenant) as embedder:
            embedder.embed(texts_of(tenant, 0))
            embedder.embed(texts_of(tenant, 1))
    embedders.close()
    assert not any("cookie" in request.headers for request in server.requests)


@pytest.mark.parametrize(
    "fault",
    [
        Reply(status=400, body=b'{"error": "' + b"x" * 1_000_000),
        Reply(body=b" " * 1_000_000),
        Reply(cut=40),
        Reply(cut=-1),
    ],
    ids=["endless refusal", "endless answer", "cut answer", "cut connection"],
)
def test_what_one_tenants_request_leaves_unread_is_never_anothers_answer(
    server: ProviderServer, fault: Reply
) -> None:
    embedders = lender(server.base_url, retry=RetryPolicy(base_delay=0.001, attempts=1))
    provider = OpenAIEmbeddings(embedders.endpoint)
    first, second = TENANTS[:2]
    server.next(fault)
    with pytest.raises(TryFailed):
        provider.ask(texts_of(first, 0), SecretStr(KEYS[first]))
    answer = provider.ask(texts_of(second, 0), SecretStr(KEYS[second]))
    np.testing.assert_array_equal(answer.vectors, expected(texts_of(second, 0)))
    provider.close()
    embedders.close()
    assert [request.key for request in server.requests] == [KEYS[first], KEYS[second]]


def test_a_key_that_is_refused_stops_its_tenant_and_no_other_on_the_connection(
    server: ProviderServer,
) -> None:
    dead, alive = TENANTS[:2]
    server.keys = {KEYS[alive]}
    embedders = lender(server.base_url)
    for _ in range(2):
        with embedders.lend(dead) as embedder, pytest.raises(KeyRefused):
            embedder.embed(texts_of(dead, 0))
        with embedders.lend(alive) as embedder:
            embedder.embed(texts_of(alive, 0))
    embedders.close()
    assert [request.key for request in server.requests] == [KEYS[dead], KEYS[alive], KEYS[alive]]


class Recorded(OpenAIEmbeddings):
    """A provider of which a test sees whether it is closed."""

    closed = False

    def close(self) -> None:
        self.closed = True
        super().close()


def test_a_bounded_number_of_endpoints_is_kept_open_and_none_is_closed_in_use(
    server: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lending, "OPEN_ENDPOINTS", 3)
    made: list[Recorded] = []

    def provider_at(endpoint: Endpoint) -> Recorded:
        made.append(Recorded(endpoint))
        return made[-1]

    embedders = lender(
        server.base_url,
        provider_at=provider_at,
        own=lambda tenant: f"{server.origin}/{tenant}/v1",
    )
    with embedders.lend(TENANTS[0]) as held:
        for tenant in TENANTS[1:]:
            with embedders.lend(tenant) as embedder:
                embedder.embed(texts_of(tenant, 0))
            assert sum(not each.closed for each in made) <= 3
        # Its endpoint is the longest unused, and yet in use.
        held.embed(texts_of(TENANTS[0], 0))
    for request in server.requests:
        (tenant,) = {text.rpartition(" ")[2] for text in request.texts}
        assert (request.path, request.key) == (f"/{tenant}/v1/embeddings", KEYS[tenant])
    embedders.close()
    assert len(made) == len(TENANTS)
    assert all(each.closed for each in made)


def test_a_closed_provider_sends_nothing(server: ProviderServer) -> None:
    provider = OpenAIEmbeddings(Endpoint(base_url=server.base_url, model=MODEL, dimensions=8))
    provider.close()
    with pytest.raises(TryFailed) as caught:
        provider.ask(["text"], SecretStr(KEYS[TENANTS[0]]))
    assert isinstance(caught.value.error, ProviderUnavailable)
    assert server.requests == []
