"""Bounds one exchange with an endpoint, whatever it sends and wherever it trickles.

The time holds from the first byte sent to the last one read, by cutting the link; the size holds
after decoding. What nobody reads of an answer, most headers among it, is not kept. Reads no answer.
"""

from __future__ import annotations

import threading
import time
import zlib
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self, cast

import openai

from checks.database.open_sockets import open_sockets, within
from remediation.provider.errors import UntrustworthyResponse
from remediation.provider.openai_compatible.host_names import find_in_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    import httpx2 as httpx

    from checks.database.open_sockets import HasSocket, OpenSockets
else:
    # What openai itself speaks HTTP with: httpx2 from its version 3 on, httpx before.
    httpx = import_module(openai.DefaultHttpxClient.__bases__[0].__module__.partition(".")[0])

REFUSAL_BYTES = 65_536
"""Read of the body of a refusal; providers' are under a thousand."""

SAY_HOW_LONG = ("x-ratelimit-", "retry-after", "date")
HEADER_CHARACTERS = 64
"""A header that says how long to wait is shorter."""

ACCEPTED = "gzip"
"""One encoding, which is undone here: the client undoes as many as an answer names, without end."""

_PACKED = ("gzip", "x-gzip", "deflate")

_here = threading.local()
"""The exchange of each thread: a request and its answer go over one."""


class Exchange:
    """One request and its answer, on the thread that enters the `with` block.

    After `seconds` its link is cut. `most` is the bytes of an answer that are of use, decoded; of a
    longer one, one byte more is read.
    """

    def __init__(self, *, seconds: float, most: int) -> None:
        self.most = most
        self._ends_at = time.monotonic() + seconds
        self._links: set[HasSocket] = set()
        self._cuts = ExitStack()

    @property
    def over(self) -> bool:
        """Whether its time has passed."""
        return time.monotonic() >= self._ends_at

    def goes_over(self, link: HasSocket) -> None:
        """Have this link cut in time; a proxy and TLS make one exchange go over several."""
        if link not in self._links:
            self._links.add(link)
            self._cuts.enter_context(within(link, max(0.0, self._ends_at - time.monotonic())))

    def __enter__(self) -> Self:
        _here.exchange = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _here.exchange = None
        self._cuts.close()
        self._links.clear()


def watch_request(links: OpenSockets, request: httpx.Request) -> None:
    """Find the host of each connection that a request opens in time, and keep its socket: for a
    stop, for its client's end, and for the exchanges that go over it.
    """

    def opened(event: str, details: dict[str, Any]) -> None:
        # Fires for a connection, and for one to a proxy.
        if event.endswith(".connect_tcp.started"):
            find_in_time(details)
        elif event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            stream = details["return_value"]
            open_sockets.keep(stream.get_extra_info("socket"))
            links.keep(stream.get_extra_info("socket"))
            _watch(stream)

    request.extensions["trace"] = opened


def _watch(stream: Any) -> None:
    """Have whatever is read from a stream or written to it count for its thread's exchange.

    A connection is used again, and nothing else tells which one a request goes over before its
    answer has begun.
    """
    read, write = stream.read, stream.write

    def read_in_time(max_bytes: int, timeout: float | None = None) -> Any:
        _goes_over(stream)
        return read(max_bytes, timeout)

    def write_in_time(buffer: bytes, timeout: float | None = None) -> None:
        _goes_over(stream)
        write(buffer, timeout)

    stream.read, stream.write = read_in_time, write_in_time
    _goes_over(stream)


def _goes_over(stream: Any) -> None:
    exchange: Exchange | None = getattr(_here, "exchange", None)
    if exchange is not None:
        exchange.goes_over(stream.get_extra_info("socket"))


def bound_answer(response: httpx.Response) -> None:
    """Bound the body of an answer, and keep of its headers those that are read.

    No charset is left: Python has some that unpack.
    """
    exchange: Exchange = _here.exchange
    good = response.is_success
    stream = cast("httpx.SyncByteStream", response.stream)
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    response.stream = _Bounded(
        stream, encoding=encoding, most=exchange.most + 1 if good else REFUSAL_BYTES, good=good
    )
    response.headers = httpx.Headers(
        {
            "content-type": "application/json",
            **{
                name: value
                for name, value in response.headers.items()
                if name.startswith(SAY_HOW_LONG) and len(value) <= HEADER_CHARACTERS
            },
        }
    )


class _Bounded(httpx.SyncByteStream):
    """A body as it is after decoding, cut off after `most` bytes, packed or not.

    Raises UntrustworthyResponse for a good answer in an encoding that was not asked for; such a
    refusal is empty.
    """

    def __init__(
        self, stream: httpx.SyncByteStream, *, encoding: str, most: int, good: bool
    ) -> None:
        self._stream = stream
        self._encoding = encoding
        self._most = most
        self._good = good

    def __iter__(self) -> Iterator[bytes]:
        unpacker = None
        if self._encoding in _PACKED:
            unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either header
        elif self._encoding not in ("", "identity"):
            if self._good:
                raise UntrustworthyResponse(
                    f"expected an answer as it is or as {ACCEPTED}, found another content-encoding"
                )
            return
        left = unread = self._most
        for chunk in self._stream:
            try:
                plain = chunk if unpacker is None else unpacker.decompress(chunk, left)
            except zlib.error:
                return
            yield plain[:left]
            left -= len(plain)
            unread -= len(chunk)
            if left <= 0 or unread <= 0:
                return

    def close(self) -> None:
        self._stream.close()
