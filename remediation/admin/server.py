"""Listens, serves until a signal, and ends a running repair in order before it ends itself."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING

import uvicorn

from remediation.admin.application import LARGEST_HEADERS
from remediation.admin.connection import PromptConnection
from remediation.admin.runs import GRACE_SECONDS, Runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from starlette.applications import Starlette

MOST_CONNECTIONS = 500
ENDING_SECONDS = GRACE_SECONDS + 4.0
"""From a signal to the end of a run, its report included; a service is often killed after 10 s."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; `::` takes IPv4 too where the system can. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if ":" not in host and not host.replace(".", "").isdigit():
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    both = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=family, backlog=2048, dualstack_ipv6=both)


class Server(uvicorn.Server):
    """uvicorn's server with the run's end in its own. A second signal ends it at once."""

    def __init__(self, application: Starlette, runs: Runs) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                # One implementation whatever else is installed: its limits are known.
                http=PromptConnection,
                # Of what has not come whole; the application refuses the rest.
                h11_max_incomplete_event_size=LARGEST_HEADERS,
                ws="none",
                lifespan="off",
                log_level="warning",
                access_log=False,
                server_header=False,
                # A client that may choose its address would choose a new one for each wrong secret.
                proxy_headers=False,
                limit_concurrency=MOST_CONNECTIONS,
                timeout_graceful_shutdown=round(ENDING_SECONDS),
            )
        )
        self._runs = runs
        self.ended = True
        """Whether no run was left behind."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Stop; unlike uvicorn's own, the process does not raise the signal again at its end."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._runs.stop()
        self.ended = False
        until = time.monotonic() + ENDING_SECONDS
        await super().shutdown(sockets)
        while not self.ended and not self.force_exit and time.monotonic() < until:
            self.ended = await asyncio.to_thread(self._runs.wait, 0.1)


def names_of(sockets: Sequence[socket.socket]) -> str:
    """Where the sockets listen, in words."""
    return ", ".join(
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        for host, port in (each.getsockname()[:2] for each in sockets)
    )
