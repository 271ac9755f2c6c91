"""TLS before a server that has none: the embedded PostgreSQL is built without it.

Answers PostgreSQL's request for TLS, then speaks it with a certificate that nobody has signed, and
keeps every byte that a client sent once it had accepted that.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tests.faults.wire import GSS_REQUEST, SSL_REQUEST, request_code
from tests.servers.localhost import PEM

if TYPE_CHECKING:
    from types import TracebackType

CHUNK = 65_536
SECONDS = 30.0
REQUEST_BYTES = 8
"""Of PostgreSQL's request for TLS: its length and its code."""


class Front:
    """A front of the server of a URL while the `with` block runs; `url` leads through it.

    `postgres` is False where a client speaks TLS from its first byte, as over https.
    """

    def __init__(self, url: str, *, postgres: bool = True) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "", parts.port or 0)
        self._postgres = postgres
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        # The name of the certificate, so that nothing but its signature is wrong.
        self.url = url.replace(f"{parts.hostname}:{parts.port}", f"localhost:{port}")
        self.asked = 0
        """Connections."""
        self.refused = 0
        """Those whose client did not accept the certificate."""
        self.received = b""
        """What clients sent that did."""
        with TemporaryDirectory(prefix="tls-") as folder:
            certificate = Path(folder, "localhost.pem")
            certificate.write_text(PEM, encoding="ascii")
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True, name="front").start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.settimeout(SECONDS)
                self.asked += 1
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            if self._postgres and not _wants_tls(client):
                return
            try:
                spoken = self._tls.wrap_socket(client, server_side=True)
                # In TLS 1.3 a client's refusal comes after the handshake.
                first = spoken.recv(CHUNK)
            except OSError:
                self.refused += 1
                return
            with spoken, socket.create_connection(self._server, SECONDS) as server:
                self.received += first
                server.sendall(first)
                while piece := _next_piece(spoken, server):
                    source, content = piece
                    if source is spoken:
                        self.received += content
                    (server if source is spoken else spoken).sendall(content)


def _next_piece(spoken: ssl.SSLSocket, server: socket.socket) -> tuple[socket.socket, bytes] | None:
    """What one side said, and which; None once a side has ended or both are silent.

    One thread looks at both: a session of OpenSSL must not be read and written at once.
    """
    sides: list[socket.socket] = [spoken]
    if not spoken.pending():
        sides, _, _ = select.select([spoken, server], [], [], SECONDS)
    content = sides[0].recv(CHUNK) if sides else b""
    return (sides[0], content) if content else None


def _wants_tls(client: socket.socket) -> bool:
    """Agree to speak TLS, with no other encryption first; False where the client wants none."""
    while len(request := client.recv(REQUEST_BYTES, socket.MSG_WAITALL)) == REQUEST_BYTES:
        code = request_code(request)
        if code not in (SSL_REQUEST, GSS_REQUEST):
            return False
        client.sendall(b"S" if code == SSL_REQUEST else b"N")
        if code == SSL_REQUEST:
            return True
    return False
