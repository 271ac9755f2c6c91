"""One caller's connection: closed where the headers of a request do not come in time.

uvicorn itself waits for them without an end, and connections are counted: those that send nothing
would keep everyone else out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

HEADERS_SECONDS = 10.0
"""From the connection, or from the first byte after an answer, to the end of the headers."""


class PromptConnection(H11Protocol):
    """uvicorn's, with a deadline while no request is being answered."""

    _deadline: asyncio.TimerHandle | None = None
    _begun: Any = None
    """The request that has come last."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._wait()
        super().data_received(data)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not self._begun:
            self._begun = self.cycle
            self._wait_no_longer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_longer()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(HEADERS_SECONDS, self.transport.close)

    def _wait_no_longer(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
