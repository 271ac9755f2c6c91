"""Has a client look for the names of its hosts in time: it bounds all else of a connection."""

from __future__ import annotations

import socket
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

import openai

from checks.database.addresses import addresses_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import httpcore2 as httpcore
    import httpx2 as httpx
else:
    # What openai's HTTP client stands on: httpcore2 from openai's version 3 on, httpcore before.
    _client = openai.DefaultHttpxClient.__bases__[0].__module__.partition(".")[0]
    httpcore = import_module(_client.replace("httpx", "httpcore"))


def find_in_time(client: httpx.Client) -> None:
    """Bound the search for names, those of proxies too, by the time for a connection.

    The client takes no backend, so its transports are given one; a version whose transports have no
    such place raises AttributeError.
    """
    for transport in (client._transport, *client._mounts.values()):
        if transport is not None:
            pool: Any = transport._pool  # type: ignore[attr-defined]
            assert pool._network_backend is not None
            pool._network_backend = _Backend()


class _Backend(httpcore.SyncBackend):
    """Opens connections to the addresses of a host, one after another, in the time for all."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        until = time.monotonic() + (timeout or 0.0)
        try:
            addresses = addresses_of(host, seconds=timeout or 0.0)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from None
        except socket.gaierror as error:
            raise httpcore.ConnectError(str(error)) from None
        for position, address in enumerate(addresses):
            share = max(0.1, until - time.monotonic()) / (len(addresses) - position)
            try:
                return super().connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if position == len(addresses) - 1:
                    raise
        raise httpcore.ConnectError("the name has no address")
