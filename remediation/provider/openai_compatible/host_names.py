"""Has a client look for the names of its hosts in time: it bounds all else of a connection."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import openai

from checks.database.addresses import addresses_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx2 as httpx
else:
    # What openai itself speaks HTTP with: httpx2 from its version 3 on, httpx before.
    httpx = import_module(openai.DefaultHttpxClient.__bases__[0].__module__.partition(".")[0])


def find_in_time(connection: dict[str, Any]) -> None:
    """Put an address in the place of the name, of a proxy too, that a connection is made to.

    `connection` is what the client tells its trace before it connects. A version that tells other
    things, or does not look at them again, searches for the name itself, with no bound.
    Raises the client's ConnectTimeout and ConnectError.
    """
    name, port, seconds = map(connection.get, ("host", "port", "timeout"))
    if name is None or port is None or seconds is None:
        return
    until = time.monotonic() + seconds
    try:
        addresses = addresses_of(name, seconds=seconds)
    except TimeoutError as error:
        raise httpx.ConnectTimeout(str(error)) from None
    except socket.gaierror as error:
        raise httpx.ConnectError(str(error)) from None
    connection["host"] = _reachable(addresses, port, until)
    connection["timeout"] = max(0.1, until - time.monotonic())


def _reachable(addresses: Sequence[str], port: int, until: float) -> str:
    """The first address that takes a connection, each in its share of the time; else the last."""
    for position, address in enumerate(addresses[:-1]):
        share = max(0.1, until - time.monotonic()) / (len(addresses) - position)
        with suppress(OSError), socket.create_connection((address, port), share):
            return address
    return addresses[-1]
