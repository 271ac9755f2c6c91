"""A server that cannot prove who it is gets no key, no text and no password."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from checks.database.connection import connect
from checks.database.connection_url import parse_url
from checks.errors import CannotExamineError
from remediation.provider.endpoint import Endpoint
from remediation.provider.errors import Unreachable
from remediation.provider.openai_compatible import client as openai_client
from remediation.provider.openai_compatible.embeddings import OpenAIEmbeddings
from tests.faults.front import Front
from tests.servers.embedders import KEY, SOON, TEXTS, LoneEmbedder
from tests.servers.localhost import PEM
from tests.servers.provider_server import MODEL, ProviderServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def embedder_at(place: Endpoint) -> LoneEmbedder:
    provider = OpenAIEmbeddings(place, timeout=30.0)
    return LoneEmbedder(provider, SecretStr(KEY), retry=SOON, stop=threading.Event())


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """The file that makes the certificate a trusted one."""
    file = tmp_path / "authority.pem"
    file.write_text(PEM, encoding="ascii")
    return file


@pytest.fixture(autouse=True)
def fresh_trust(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    openai_client._tls.cache_clear()
    yield
    openai_client._tls.cache_clear()


@pytest.mark.parametrize(
    ("host", "wanted", "words"),
    [
        ("localhost", "sslrootcert=system", "name its authority's certificate with sslrootcert"),
        ("localhost", "sslrootcert=/nowhere.pem", "name its authority's certificate with"),
        ("127.0.0.1", "sslrootcert={authority}", "name the host as its certificate does"),
    ],
    ids=["nobody signed it", "no authority", "another host's"],
)
def test_a_database_with_a_wrong_certificate_is_sent_nothing(
    database: str, authority: Path, host: str, wanted: str, words: str
) -> None:
    with Front(database) as front:
        url = front.url.replace("localhost", host)
        with pytest.raises(CannotExamineError) as caught:
            connect(
                parse_url(
                    f"{url}?sslmode=verify-full&{wanted.format(authority=authority)}",
                    variable="DATABASE_URL",
                )
            )
        assert words in str(caught.value)
        assert "in the URL in DATABASE_URL" in str(caught.value)
        assert front.asked > 0
        assert front.received == b""


def test_a_database_with_a_certificate_that_is_trusted_is_reached(
    database: str, authority: Path
) -> None:
    with Front(database) as front:
        url = f"{front.url}?sslmode=verify-full&sslrootcert={authority}"
        place = parse_url(url, variable="DATABASE_URL")
        with connect(place) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert front.refused == 0


@pytest.mark.parametrize("trusted", [False, True])
def test_an_endpoint_with_a_wrong_certificate_is_sent_neither_key_nor_text(
    authority: Path, monkeypatch: pytest.MonkeyPatch, *, trusted: bool
) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with (
        ProviderServer(keys={KEY}) as server,
        Front(server.base_url, postgres=False) as front,
    ):
        url = front.url.replace("http:", "https:")
        place = Endpoint(base_url=url, model=MODEL, dimensions=8)
        with embedder_at(place) as asked:
            if trusted:
                assert asked.embed(TEXTS)
                return
            with pytest.raises(Unreachable) as caught:
                asked.embed(TEXTS)
        assert f"the certificate of {url} is not one that this machine trusts" in str(caught.value)
        assert "self-signed certificate" in str(caught.value)
        assert "SSL_CERT_FILE" in str(caught.value)
        assert server.requests == []
        assert front.received == b""
