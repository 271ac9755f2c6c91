"""An endpoint on loopback that answers with whatever bytes it is told to, at whatever pace.

`ProviderServer` speaks HTTP as it should; this one need not.
"""

from __future__ import annotations

import json
import socketserver
import threading
from typing import TYPE_CHECKING, Any

from tests.servers.provider_server import MODEL, vector_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Self

Piece = bytes | float
"""Bytes to send, or seconds to wait, which the end of the endpoint cuts short."""


class RawEndpoint:
    """Answers each request with the pieces that `script` gives for its key and texts.

    After an answer the connection is closed, unless the script is `keeping` it.
    """

    def __init__(
        self, script: Callable[[str, Sequence[str]], Iterable[Piece]], *, keeping: bool = False
    ) -> None:
        self.script = script
        self.keeping = keeping
        self.closing = threading.Event()
        self.asked = 0
        self._tcp = _Server(("127.0.0.1", 0), _Conversation)
        self._tcp.endpoint = self
        self._thread = threading.Thread(target=self._tcp.serve_forever, args=(0.02,), daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._tcp.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._tcp.shutdown()
        self._tcp.server_close()
        self._thread.join()


def healthy(texts: Sequence[str], dimensions: int = 8) -> dict[str, Any]:
    """A good answer, with vectors as numbers; a token per word."""
    tokens = sum(len(text.split()) for text in texts)
    return {
        "object": "list",
        "model": MODEL,
        "data": [
            {"object": "embedding", "index": n, "embedding": vector_of(text, dimensions).tolist()}
            for n, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """An answer of HTTP, with its length."""
    lines = (f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", "")
    return "\r\n".join(lines).encode("latin-1") + body


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    endpoint: RawEndpoint


class _Conversation(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        endpoint = self.server.endpoint
        try:
            while self.rfile.readline():
                headers = {}
                while line := self.rfile.readline().decode("latin-1").strip():
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                asked = json.loads(self.rfile.read(int(headers.get("content-length", 0))))
                endpoint.asked += 1
                key = headers.get("authorization", "").removeprefix("Bearer ")
                for piece in endpoint.script(key, asked["input"]):
                    if isinstance(piece, bytes):
                        self.wfile.write(piece)
                    elif endpoint.closing.wait(piece):
                        return
                if not endpoint.keeping:
                    return
        except (OSError, ValueError):
            return  # a client that hangs up is part of the tests
