"""A request through a proxy of the environment is cut as any other when a repair must end."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from checks.database.open_sockets import open_sockets
from remediation.provider.endpoint import Endpoint
from remediation.provider.errors import Stopped
from remediation.provider.openai_compatible import client as openai_client
from remediation.provider.openai_compatible.embeddings import OpenAIEmbeddings
from tests.servers.embedders import KEY, TEXTS, LoneEmbedder
from tests.servers.localhost import PEM
from tests.servers.provider_server import MODEL, ProviderServer, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAUSE = 60.0
"""Seconds that the provider takes to answer, and that the client would wait."""


@contextmanager
def proxy() -> Iterator[str]:
    """A proxy on loopback that tunnels (CONNECT) wherever it is asked to; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65_536):
                sink.sendall(piece)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                asked = b""
                while b"\r\n\r\n" not in asked:
                    asked += client.recv(65_536)
                host, _, port = asked.split()[1].decode().rpartition(":")
                server = socket.create_connection((host, int(port)))
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    with listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A certificate that the client trusts, with its key."""
    file = tmp_path / "localhost.pem"
    file.write_text(PEM, encoding="ascii")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    openai_client._tls.cache_clear()
    yield file
    openai_client._tls.cache_clear()


def test_a_cut_wakes_who_waits_for_an_answer_through_a_tunnel(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    server = ProviderServer(keys={KEY})
    server._http.socket = tls.wrap_socket(server._http.socket, server_side=True)
    port = server._http.server_address[1]
    for name in ("NO_PROXY", "no_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    stop = threading.Event()
    raised: list[BaseException] = []
    with server, proxy() as url:
        monkeypatch.setenv("HTTPS_PROXY", url)
        server.always(Reply(pause=PAUSE))
        place = Endpoint(base_url=f"https://localhost:{port}/v1", model=MODEL, dimensions=8)
        provider = OpenAIEmbeddings(place, timeout=PAUSE)
        with LoneEmbedder(provider, SecretStr(KEY), stop=stop) as asked:

            def ask() -> None:
                try:
                    asked.embed(TEXTS)
                except Stopped as error:
                    raised.append(error)

            asking = threading.Thread(target=ask)
            asking.start()
            server.wait_for_requests(1)
            stop.set()
            open_sockets.cut()
            asking.join(PAUSE / 2)
            woken = not asking.is_alive()
        server.closing.set()
        asking.join()
    assert woken
    assert [type(error) for error in raised] == [Stopped]
