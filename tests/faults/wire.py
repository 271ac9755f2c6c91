"""PostgreSQL's messages as they pass, and which step of a repair a statement is.

Reads what it needs of the protocol (PostgreSQL documentation, "Message Formats"); changes nothing.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
"""Request codes that a client may send ahead of its start-up message."""


class Step(enum.StrEnum):
    """Where a repair is: a statement that has come to the link, or its answer that has."""

    SCAN_SENT = "scan-sent"
    SCANNED = "scanned"
    LOCK_SENT = "lock-sent"
    LOCK_TAKEN = "lock-taken"
    PAGE_SENT = "page-sent"
    PAGE_READ = "page-read"
    UPDATE_SENT = "update-sent"
    UPDATED = "updated"
    COMMIT_SENT = "commit-sent"
    """Of a transaction that wrote; the server does not have it yet."""
    COMMITTED = "committed"
    """The server has committed; nobody has heard of it yet."""
    READ_BACK_SENT = "read-back-sent"
    READ_BACK = "read-back"


FEW = (
    *(Step.SCAN_SENT, Step.SCANNED, Step.LOCK_SENT, Step.LOCK_TAKEN),
    *(Step.PAGE_SENT, Step.PAGE_READ),
)
"""Those that come once or twice in a repair, whatever its size."""
AROUND_COMMIT = (Step.UPDATE_SENT, Step.UPDATED, Step.COMMIT_SENT, Step.COMMITTED)
ANSWERED = {
    Step.SCAN_SENT: Step.SCANNED,
    Step.LOCK_SENT: Step.LOCK_TAKEN,
    Step.PAGE_SENT: Step.PAGE_READ,
    Step.UPDATE_SENT: Step.UPDATED,
    Step.COMMIT_SENT: Step.COMMITTED,
    Step.READ_BACK_SENT: Step.READ_BACK,
}

_STATEMENTS = (
    (Step.SCAN_SENT, re.compile(rb"FROM integrity_counts")),
    (Step.LOCK_SENT, re.compile(rb"pg_try_advisory_xact_lock")),
    (Step.PAGE_SENT, re.compile(rb"^\s*FETCH .*integrity_page")),
    (Step.READ_BACK_SENT, re.compile(rb"integrity_key\.position")),
    (Step.UPDATE_SENT, re.compile(rb"^\s*(UPDATE|INSERT|WITH integrity_locked)\s")),
)


@dataclass(slots=True)
class Messages:
    """Cuts a stream of bytes into whole messages; `begun` once the untyped first one is over."""

    begun: bool
    _rest: bytes = b""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The messages that are whole by now."""
        self._rest += piece
        while True:
            head = 1 if self.begun else 0
            if len(self._rest) < head + 4:
                return
            length = head + int.from_bytes(self._rest[head : head + 4], "big")
            if len(self._rest) < length:
                return
            message, self._rest = self._rest[:length], self._rest[length:]
            yield message


@dataclass(slots=True)
class Conversation:
    """Follows one session: what was asked, and whether the answer to it is there."""

    backend: int | None = None
    """The process id of the server's side, as `pg_terminate_backend` takes it."""
    _asked: Step | None = None
    _wrote: bool = False
    _refused: bool = False
    _tag: bytes = b""
    _steps: dict[Step, int] = field(default_factory=dict)

    def asks(self, message: bytes) -> Step | None:
        """The step that a message of the client begins, if any."""
        statement = _statement(message)
        if statement is None:
            return None
        step = self._step(statement)
        if step is not None or self._asked is None:
            # Statements of one pipeline share an answer's end: the one that is a step counts.
            self._asked, self._refused, self._tag = step, False, b""
        return step

    def answers(self, message: bytes) -> Step | None:
        """The step that a message of the server completes, if any."""
        kind = message[:1]
        if kind == b"K":
            self.backend = int.from_bytes(message[5:9], "big")
        elif kind == b"E":
            self._refused = True
        elif kind == b"C":
            self._tag = message[5:-1]
        elif kind == b"Z" and self._asked is not None:
            asked, self._asked = self._asked, None
            if self._refused or (asked is Step.COMMIT_SENT and self._tag != b"COMMIT"):
                return None
            return ANSWERED[asked]
        return None

    def _step(self, statement: bytes) -> Step | None:
        word = statement.strip().upper()
        if word.startswith((b"BEGIN", b"ROLLBACK")):
            self._wrote = False
        if word.startswith(b"COMMIT"):
            wrote, self._wrote = self._wrote, False
            return Step.COMMIT_SENT if wrote else None
        step = next((step for step, form in _STATEMENTS if form.search(statement)), None)
        self._wrote |= step is Step.UPDATE_SENT
        return step


def request_code(message: bytes) -> int:
    """The code of an untyped first message: a protocol version, or what the client asks for."""
    return int.from_bytes(message[4:8], "big")


def _statement(message: bytes) -> bytes | None:
    """The SQL of a Query or a Parse, None of any other message."""
    if message[:1] == b"Q":
        return message[5:-1]
    if message[:1] == b"P":
        _name, statement, _types = message[5:].split(b"\0", 2)
        return statement
    return None
