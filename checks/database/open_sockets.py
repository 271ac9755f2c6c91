"""Keeps every open socket to a server, so that a run that must end can cut them.

Closes nothing and holds nothing open; whoever waits on a link that is cut fails at once.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
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
        self._were_cut: weakref.WeakSet[HasSocket] = weakref.WeakSet()

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
            self.cut_one(link)

    def cut_one(self, link: HasSocket) -> None:
        """Shut one link down, and remember that it was us."""
        with self._lock:
            self._were_cut.add(link)
        _cut(link)

    def was_cut(self, link: HasSocket) -> bool:
        """Whether it was we who shut the link down."""
        with self._lock:
            return link in self._were_cut


def _cut(link: HasSocket) -> None:
    # It was closed meanwhile, or never connected: there is nothing to cut.
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(link.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


class _Watchdog:
    """Cuts links whose time is over: one thread for all of them, begun with the first. Safe across
    threads.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._deadlines: dict[object, tuple[float, HasSocket]] = {}
        self._wakes_at: float | None = None
        """When the thread looks next; None before it is begun. Entries that go leave it as it is:
        thousands come and go for each look."""

    def watch(self, link: HasSocket, seconds: float) -> object:
        """Cut the link in so many seconds, unless it is let go by then."""
        entry, deadline = object(), time.monotonic() + seconds
        with self._changed:
            self._deadlines[entry] = (deadline, link)
            if self._wakes_at is None:
                threading.Thread(target=self._look_on, name="watchdog", daemon=True).start()
                self._wakes_at = math.inf
            if deadline < self._wakes_at:
                self._wakes_at = deadline
                self._changed.notify()
        return entry

    def let_go(self, entry: object) -> None:
        """Watch a link no longer."""
        with self._changed:
            self._deadlines.pop(entry, None)

    def _look_on(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                self._cut_late(now)
                deadlines = (deadline for deadline, _ in self._deadlines.values())
                self._wakes_at = min(deadlines, default=math.inf)
                self._changed.wait(min(self._wakes_at - now, threading.TIMEOUT_MAX))

    def _cut_late(self, now: float) -> None:
        late = [entry for entry, (deadline, _) in self._deadlines.items() if deadline <= now]
        for entry in late:
            open_sockets.cut_one(self._deadlines.pop(entry)[1])


_watchdog = _Watchdog()


@contextmanager
def within(link: HasSocket, seconds: float) -> Iterator[None]:
    """Cut the link where the block takes longer.

    A time-out of the server's cannot end a statement where the server has fallen silent, or the
    link swallows what is sent.
    """
    entry = _watchdog.watch(link, seconds)
    try:
        yield
    finally:
        _watchdog.let_go(entry)


open_sockets = OpenSockets()
"""The one register of the process: whoever opens a link keeps it here."""
