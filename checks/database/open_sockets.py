"""Keeps every open socket to a server, so that a run that must end can cut them.

Closes nothing and holds nothing open; whoever waits on a link that is cut fails at once.
"""

from __future__ import annotations

import os
import socket
import threading
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator


class HasSocket(Protocol):
    """A socket, or a connection that has one."""

    def fileno(self) -> int:
        """The descriptor of the socket; an error or a negative number where it is closed."""


class OpenSockets:
    """Holds links by weak reference. Safe across threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links: weakref.WeakSet[HasSocket] = weakref.WeakSet()

    def keep(self, link: HasSocket) -> None:
        """Remember a link for as long as somebody else holds it."""
        with self._lock:
            self._links.add(link)

    def cut(self) -> None:
        """Shut every link down in both directions.

        A thread that waits for an answer is woken: closing a socket would leave it waiting.
        """
        with self._lock:
            links = list(self._links)
        for link in links:
            _cut(link)


def _cut(link: HasSocket) -> None:
    # It was closed meanwhile, or never connected: there is nothing to cut.
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(link.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def within(link: HasSocket, seconds: float) -> Iterator[None]:
    """Cut the link where the block takes longer.

    A time-out of the server's cannot end a statement where the server has fallen silent, or the
    link swallows what is sent.
    """
    timer = threading.Timer(seconds, _cut, [link])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


open_sockets = OpenSockets()
"""The one register of the process: whoever opens a link keeps it here."""
