"""A TCP proxy before PostgreSQL that does harm at named steps of a repair.

Knows nothing of what is repaired; what it does at a step is said by `when`.

    with Link(url) as link:
        link.when(Step.COMMITTED, cut)              # committed, and nobody will ever hear of it
        link.when(Step.UPDATE_SENT, half, nth=3)    # the third UPDATE ends in the middle
        run(link.url)
"""

from __future__ import annotations

import enum
import socket
import struct
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tests.faults.wire import GSS_REQUEST, SSL_REQUEST, Conversation, Messages, Step, request_code

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Fate(enum.Enum):
    """What becomes of a message."""

    FORWARD = enum.auto()
    HALF = enum.auto()
    """Half of it is forwarded, then both ends are reset."""
    CUT = enum.auto()
    """It is lost, and both ends are reset."""


class Toward(enum.Enum):
    """A direction."""

    SERVER = enum.auto()
    CLIENT = enum.auto()


@dataclass(slots=True, eq=False)
class Session:
    """One connection through the link."""

    client: socket.socket
    server: socket.socket
    talk: Conversation = field(default_factory=Conversation)
    swallowing: set[Toward] = field(default_factory=set)
    """Directions in which bytes are taken and lost."""

    @property
    def backend(self) -> int | None:
        """The process id of the server's side."""
        return self.talk.backend

    def cut(self) -> None:
        """Reset both ends."""
        for end in (self.client, self.server):
            _reset(end)


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """A step that has just come by, before its message is passed on."""

    step: Step
    session: Session
    toward: Toward


if TYPE_CHECKING:
    Action = Callable[[Moment], Fate | None]
    """Called on the session's own thread; None forwards."""


def forward(_: Moment) -> Fate:
    return Fate.FORWARD


def cut(_: Moment) -> Fate:
    return Fate.CUT


def half(_: Moment) -> Fate:
    return Fate.HALF


def delay(seconds: float) -> Action:
    """Pass the message on later; the session's other direction goes on."""
    waiting = threading.Event()

    def late(_: Moment) -> None:
        waiting.wait(seconds)

    return late


def black_hole(seconds: float, *directions: Toward) -> Action:
    """Take everything in those directions (all, where none is named) and pass nothing on.

    After that time both ends are reset, as a firewall or a keepalive ends such a connection.
    """

    def swallow(moment: Moment) -> None:
        moment.session.swallowing |= set(directions or Toward)
        timer = threading.Timer(seconds, moment.session.cut)
        timer.daemon = True
        timer.start()

    return swallow


@dataclass(slots=True)
class _Rule:
    step: Step | None
    action: Action
    skip: int
    times: float


class Link:
    """Forwards to the server of `url` for as long as the `with` block runs. Not for TLS.

    What an action raises is raised at the end of the block.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._server = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        port = self._listener.getsockname()[1]
        self.url = url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{port}")
        self.seen: Counter[Step] = Counter()
        """Steps that came by."""
        self.fired: list[Step] = []
        """Steps at which a rule did something."""
        self._rules: list[_Rule] = []
        self._errors: list[Exception] = []
        self._lock = threading.Lock()
        self._sessions: set[Session] = set()
        self._threads: list[threading.Thread] = []

    def when(self, step: Step | None, action: Action, *, nth: int = 1, times: float = 1) -> None:
        """Act at the nth time that the step comes by from now on (None: any step), and so often."""
        with self._lock:
            self._rules.append(_Rule(step, action, nth - 1, times))

    def calm(self) -> None:
        """Forget every rule."""
        with self._lock:
            self._rules.clear()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Ends the waiting accept(), which a close alone would not.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            sessions, threads = list(self._sessions), list(self._threads)
        for session in sessions:
            session.cut()
        for thread in threads:
            thread.join(10)
        if self._errors and error is None:
            raise self._errors[0]

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True, name="link")
        with self._lock:
            self._threads = [one for one in self._threads if one.is_alive()]
            self._threads.append(thread)
            # Within the lock: one that is listed and not yet started would pass for ended.
            thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server, timeout=10)
            except OSError:
                # The server is down: whoever connects shall see that.
                _reset(client)
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = Session(client, server)
            with self._lock:
                self._sessions.add(session)
            self._start(self._pump, session, Toward.SERVER)
            self._start(self._pump, session, Toward.CLIENT)

    def _pump(self, session: Session, toward: Toward) -> None:
        """Pass one direction on, message by message, until an end closes."""
        to_server = toward is Toward.SERVER
        source = session.client if to_server else session.server
        target = session.server if to_server else session.client
        messages = Messages(begun=not to_server)
        try:
            while piece := source.recv(65536):
                for message in messages.feed(piece):
                    if not messages.begun:
                        if request_code(message) in (SSL_REQUEST, GSS_REQUEST):
                            session.client.sendall(b"N")
                            continue
                        messages.begun = True
                    self._pass_on(session, toward, message, target)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            # One end is gone, or was reset by a rule: so is the other.
            session.cut()
        except Exception as error:
            # Of an action: nobody hears of it on this thread.
            self._errors.append(error)
            session.cut()
        if not to_server:
            with self._lock:
                self._sessions.discard(session)

    def _pass_on(
        self, session: Session, toward: Toward, message: bytes, target: socket.socket
    ) -> None:
        talk = session.talk
        step = talk.asks(message) if toward is Toward.SERVER else talk.answers(message)
        fate = Fate.FORWARD
        if step is not None:
            for action in self._due(step):
                moment = Moment(step=step, session=session, toward=toward)
                fate = action(moment) or fate
        if toward in session.swallowing:
            return
        if fate is Fate.CUT:
            session.cut()
            raise ConnectionResetError
        if fate is Fate.HALF:
            target.sendall(message[: max(1, len(message) // 2)])
            session.cut()
            raise ConnectionResetError
        target.sendall(message)

    def _due(self, step: Step) -> list[Action]:
        due = []
        with self._lock:
            self.seen[step] += 1
            for rule in self._rules:
                if rule.step not in (None, step):
                    continue
                if rule.skip > 0:
                    rule.skip -= 1
                elif rule.times > 0:
                    rule.times -= 1
                    self.fired.append(step)
                    due.append(rule.action)
        return due


def _reset(end: socket.socket) -> None:
    """Close so that the other side sees a reset, not a goodbye; wake whoever reads from it."""
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with suppress(OSError):
        # Not in both directions: that would send a goodbye ahead of the reset.
        end.shutdown(socket.SHUT_RD)
    end.close()
