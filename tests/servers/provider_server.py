"""An OpenAI-compatible embeddings endpoint on loopback that fails as it is told to.

A real HTTP server in a thread; it keeps every request, so that a test can say which text was sent
with which key. Healthy answers are deterministic: see `vector_of`.

    with ProviderServer(dimensions=8, keys={"sk-acme"}) as server:
        server.next(Reply(status=503), Reply(change=drop_last))   # then healthy again
        server.poison("forbidden")                                # 400 while a text contains it
        ...
        server.requests[0].texts
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

Body = dict[str, Any]
MODEL = "text-embedding-3-small"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceivedRequest:
    """A request as it came: header names in lower case, the key without `Bearer`.

    `at` is when it was read whole, on the monotonic clock.
    """

    at: float
    path: str
    headers: Mapping[str, str]
    key: str | None
    body: Body
    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """One fault. Without any field it is a healthy answer.

    `change` edits the healthy answer; `body` replaces it; `error` is an OpenAI error object;
    `cut` sends that many bytes of the body and resets the connection (-1: not even a status);
    `pause` waits that many seconds, or until the server closes, before answering; `drip` waits as
    long between single bytes of the body.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    change: Callable[[Body], object] | None = None
    body: bytes | None = None
    error: Mapping[str, object] | None = None
    cut: int | None = None
    pause: float = 0.0
    drip: float = 0.0


class ProviderServer:
    """The server as a context manager; `base_url` goes into `[provider] base_url`.

    `keys` are the accepted ones (None: every key); any other gets 401. `model` is what answers
    carry and what the vectors depend on. With `encoding="float"` vectors are JSON lists, as from
    servers that ignore `encoding_format`.
    """

    def __init__(
        self,
        *,
        dimensions: int = 8,
        model: str = MODEL,
        keys: Collection[str] | None = None,
        encoding: str = "base64",
    ) -> None:
        self.dimensions = dimensions
        self.model = model
        self.keys = keys
        self.encoding = encoding
        self.requests: list[ReceivedRequest] = []
        self.closing = threading.Event()
        self._poison: list[str] = []
        self._replies: deque[Reply] = deque()
        self._rule: Reply | Callable[[ReceivedRequest], Reply | None] | None = None
        self._arrived = threading.Condition()
        self._http = _Server(("127.0.0.1", 0), _Conversation)
        self._http.endpoint = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def origin(self) -> str:
        """The URL without a path."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def connections(self) -> int:
        """TCP connections accepted so far."""
        return self._http.connections

    @property
    def texts(self) -> list[str]:
        """Every text received, in order of arrival."""
        return [text for request in self.requests for text in request.texts]

    def next(self, *replies: Reply) -> None:
        """Answer the next requests so, in order of arrival; afterwards healthy again."""
        self._replies.extend(replies)

    def always(self, rule: Reply | Callable[[ReceivedRequest], Reply | None] | None) -> None:
        """Answer every request so once the replies of `next` are used.

        A function chooses by the request and returns None for a healthy answer; None ends it.
        """
        self._rule = rule

    def poison(self, *pieces: str) -> None:
        """Refuse with 400 every request of which a text contains one of the pieces."""
        self._poison.extend(pieces)

    def wait_for_requests(self, count: int, seconds: float = 120.0) -> None:
        """Wait until that many requests have arrived. Raises TimeoutError."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests) >= count, seconds):
                raise TimeoutError(f"expected {count} requests, found {len(self.requests)}")

    def receive(self, request: ReceivedRequest) -> Reply:
        """Keep a request and choose its reply."""
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
            if self._replies:
                return self._replies.popleft()
        reply = self._rule(request) if callable(self._rule) else self._rule
        if reply is not None:
            return reply
        if self.keys is not None and request.key not in self.keys:
            return Reply(
                status=401,
                error={
                    "message": f"Incorrect API key provided: {request.key}.",
                    "type": "invalid_request_error",
                    "code": "invalid_api_key",
                },
            )
        if any(text == "" or any(p in text for p in self._poison) for text in request.texts):
            return Reply(
                status=400,
                error={
                    "message": "'$.input' is invalid.",
                    "type": "invalid_request_error",
                    "param": "input",
                },
            )
        return Reply()

    def answer(self, texts: tuple[str, ...]) -> Body:
        """The healthy answer; a token per word."""
        tokens = sum(len(text.split()) for text in texts)
        vectors = [vector_of(text, self.dimensions, self.model) for text in texts]
        return {
            "object": "list",
            "model": self.model,
            "data": [
                {"object": "embedding", "index": index, "embedding": self._encode(vector)}
                for index, vector in enumerate(vectors)
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def _encode(self, vector: NDArray[np.float32]) -> str | list[float]:
        if self.encoding == "float":
            return [float(number) for number in vector]
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()

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
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def when_asked(server: ProviderServer, count: int, work: Callable[[], object]) -> None:
    """Do something as that request arrives, before it is answered."""

    def rule(_: ReceivedRequest) -> None:
        if len(server.requests) == count:
            work()

    server.always(rule)


def azure(deployment: str, version: str, key: str) -> Callable[[ReceivedRequest], Reply | None]:
    """A rule for `always`: as Azure OpenAI, insist on path, query and header, and on no other."""

    def rule(request: ReceivedRequest) -> Reply | None:
        if request.headers.get("api-key") != key or "authorization" in request.headers:
            return Reply(
                status=401,
                error={
                    "code": "401",
                    "message": "Access denied due to invalid subscription key or wrong API"
                    " endpoint. Make sure to provide a valid key for an active subscription.",
                },
            )
        path, _, query = request.path.partition("?")
        if query != f"api-version={version}":
            return Reply(status=404, error={"code": "404", "message": "Resource not found"})
        if path != f"/openai/deployments/{deployment}/embeddings":
            return Reply(
                status=404,
                error={
                    "code": "DeploymentNotFound",
                    "message": "The API deployment for this resource does not exist.",
                },
            )
        return None

    return rule


def vector_of(text: str, dimensions: int = 8, model: str = MODEL) -> NDArray[np.float32]:
    """The unit vector, float32, that a healthy server of that model gives a text."""
    seed = hashlib.sha256(f"{model}\0{text}".encode()).digest()
    vector = np.random.default_rng(list(seed)).standard_normal(dimensions)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    endpoint: ProviderServer
    connections = 0

    def get_request(self) -> tuple[socket.socket, Any]:
        accepted = super().get_request()
        self.connections += 1
        return accepted

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up in the middle is part of the tests, not worth a traceback."""


class _Conversation(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for the client's delayed ACK
    server: _Server

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        body: Body = json.loads(raw)
        given = body["input"]
        texts = tuple([given] if isinstance(given, str) else given)
        authorization = self.headers.get("authorization")
        request = ReceivedRequest(
            at=time.monotonic(),
            path=self.path,
            headers={name.lower(): value for name, value in self.headers.items()},
            key=authorization.removeprefix("Bearer ") if authorization else None,
            body=body,
            texts=texts,
        )
        endpoint = self.server.endpoint
        reply = endpoint.receive(request)
        if reply.pause:
            endpoint.closing.wait(reply.pause)
        self._send(reply, self._content(reply, texts))

    def _content(self, reply: Reply, texts: tuple[str, ...]) -> bytes:
        if reply.body is not None:
            return reply.body
        if reply.error is not None:
            return json.dumps({"error": reply.error}).encode()
        if not 200 <= reply.status < 300:
            return json.dumps({"error": {"message": "fault of the test"}}).encode()
        answer = self.server.endpoint.answer(texts)
        if reply.change is not None:
            reply.change(answer)
        return json.dumps(answer).encode()

    def _send(self, reply: Reply, content: bytes) -> None:
        if reply.cut == -1:
            self._reset()
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if reply.drip:
            for byte in content:
                self.wfile.write(bytes([byte]))
                if self.server.endpoint.closing.wait(reply.drip):
                    return
            return
        self.wfile.write(content if reply.cut is None else content[: reply.cut])
        if reply.cut is not None:
            self.wfile.flush()
            self._reset()

    def _reset(self) -> None:
        """Close so that the other side sees a reset, as from a proxy that died."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        # `close` alone would wait for the files made of the socket, and say goodbye first.
        os.close(self.connection.detach())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: requests are kept in `ProviderServer.requests`."""
