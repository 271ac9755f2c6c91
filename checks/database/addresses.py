"""Finds the addresses of a host in time: the system's own search for a name has no bound.

A search that takes longer is left to itself, on a thread that nobody waits for.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import Future, wait
from ipaddress import ip_address
from typing import TYPE_CHECKING

from checks.awake import AWAKE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAST_SECONDS = 2
"""For one address; libpq takes no less."""


def addresses_of(host: str, *, seconds: float) -> list[str]:
    """The addresses of a name, each once, in the order in which they are to be tried.

    Raises TimeoutError after so many seconds, and socket.gaierror for a name that nobody has.
    """
    if _is_address(host):
        return [host]
    found: Future[list[str]] = Future()

    def search() -> None:
        try:
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found.set_result(list(dict.fromkeys(str(address[0]) for *_, address in entries)))
        except Exception as error:
            found.set_exception(error)

    threading.Thread(target=search, name="name", daemon=True).start()
    until = time.monotonic() + seconds
    while not found.done():
        if time.monotonic() >= until:
            raise TimeoutError(f"the name {host} was not resolved within {seconds:.0f} s")
        wait([found], timeout=AWAKE_SECONDS)
    return found.result()


def resolved(parameters: Mapping[str, str], *, seconds: int) -> dict[str, str]:
    """libpq's parameters for the addresses of its hosts, each of which has its share of the time.

    Empty where there is no name among them. Raises as `addresses_of` does where no host is found.
    """
    named = parameters.get("host", os.environ.get("PGHOST", ""))
    if "hostaddr" in parameters or all(_needs_no_search(host) for host in named.split(",")):
        return {}
    hosts, until = named.split(","), time.monotonic() + seconds
    ports = parameters.get("port", "").split(",")
    ports = ports if len(ports) == len(hosts) else ports * len(hosts)
    ways: list[tuple[str, str, str]] = []
    failed: OSError | None = None
    for host, port in zip(hosts, ports, strict=False):
        try:
            left = max(0.0, until - time.monotonic())
            addresses = [""] if _is_path(host) else addresses_of(host, seconds=left)
            ways += [(host, address, port) for address in addresses]
        except OSError as error:
            failed = error
    if failed and not ways:
        raise failed
    lists = [",".join(column) for column in zip(*ways, strict=True)]
    return {
        **dict(zip(("host", "hostaddr", "port"), lists if lists[2] else lists[:2], strict=False)),
        "connect_timeout": str(max(LEAST_SECONDS, seconds // len(ways))),
    }


def _needs_no_search(host: str) -> bool:
    return _is_path(host) or _is_address(host)


def _is_path(host: str) -> bool:
    """Whether libpq takes it for a socket's folder, or for none that is named."""
    return host == "" or host.startswith(("/", "@"))


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
