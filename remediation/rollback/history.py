"""Traces in a run's journal what it wrote to each row, and what was there before.

Keeps a few bytes for each row, never a vector; asks no database.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from remediation.journal.past_journals import JournalDamagedError
from remediation.journal.sealed_lines import END, seal_of, sealed_event_of
from remediation.selection.row_reader import md5

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from remediation.journal.past_journals import PastJournal
    from remediation.selection.batching import FailingRow, Key

State: TypeAlias = bytes
"""How a row stands: the md5 of its vector, or one of the two below."""
ABSENT: State = b"absent"
NO_VECTOR: State = b"no vector"


def state_of(vector_md5: str | None, *, absent: bool = False) -> State:
    """The state of a row that holds a vector of this md5, or none, or that is not there."""
    if absent:
        return ABSENT
    return NO_VECTOR if vector_md5 is None else bytes.fromhex(vector_md5)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Before:
    """How a row stood before the run first wrote to it, and what it was read with."""

    tenant: str | None
    text_hash: str
    checks: tuple[str, ...]
    vector: bytes | None
    beside: tuple[str | None, ...]
    absent: bool
    """Whether its store had no row for it."""

    @property
    def vector_hash(self) -> str | None:
        return None if self.vector is None else md5(self.vector)

    @property
    def state(self) -> State:
        return state_of(self.vector_hash, absent=self.absent)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PutBack:
    """A row as the run left it, and as it was before."""

    row: FailingRow
    before: Before

    @property
    def stored_as(self) -> str | None:
        return self.before.vector_hash

    @property
    def deletes(self) -> bool:
        return self.before.absent


def before_of(event: Mapping[str, Any]) -> Before:
    """What a `replacing` event recorded. Raises LookupError and ValueError for a damaged one."""
    vector = event["vector"]
    return Before(
        tenant=event["tenant"],
        text_hash=event["text_md5"],
        checks=tuple(event["checks"]),
        vector=None if vector is None else base64.b64decode(vector, validate=True),
        beside=tuple(event["beside"]),
        absent=event["inserted"],
    )


class WrittenState(NamedTuple):
    """A state that the run left a row in, and the offset of what was there before."""

    state: State
    origin: int


class _Pending(NamedTuple):
    """A write that has no outcome yet, and the links that hold if it comes to nothing."""

    was: State
    link: WrittenState
    before: tuple[WrittenState, ...]


@dataclass(kw_only=True, slots=True)
class WrittenRows:
    """The rows of one table that a run wrote to.

    A row that was edited and written again goes back to what was there before the first write,
    unless somebody else wrote a vector in between: then to theirs.
    """

    columns: Mapping[str, Any] = field(default_factory=dict)
    """What was written, as `journal.columns_written` gives it."""
    _links: dict[Key, tuple[WrittenState, ...]] = field(default_factory=dict)
    _pending: dict[Key, _Pending] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(1 for links in self._links.values() if links)

    def items(self) -> Iterator[tuple[Key, tuple[WrittenState, ...]]]:
        """Every row that the run may have written, in the order of its first write."""
        return ((key, links) for key, links in self._links.items() if links)

    def replacing(self, event: Mapping[str, Any], offset: int) -> None:
        """Take in that a row is about to be written. Raises LookupError and ValueError."""
        key = tuple(event["key"])
        links = self._links.get(key, ())
        was, becomes = before_of(event).state, state_of(event["writing_md5"])
        if event["deleting"]:
            becomes = ABSENT
        pending = self._pending.get(key)
        if pending is not None and pending.was == was:
            # A second try of the same write, as for a locked row: the first wrote nothing.
            links = pending.before
        origin = next((link.origin for link in links if link.state == was), offset)
        link = WrittenState(state=becomes, origin=origin)
        self._pending[key] = _Pending(was=was, link=link, before=links)
        self._links[key] = _with(links, link)

    def outcome(self, event: Mapping[str, Any]) -> None:
        """Take in the outcome of a write. Raises LookupError and ValueError."""
        key = tuple(event["key"])
        pending = self._pending.pop(key, None)
        if pending is None:
            return
        if not event["written"]:
            if not event.get("uncertain"):
                self._links[key] = pending.before
        elif event["written_md5"] is not None:
            # A trigger may have stored another vector than was sent.
            stored = WrittenState(state=state_of(event["written_md5"]), origin=pending.link.origin)
            self._links[key] = _with(pending.before, stored)


def _with(links: tuple[WrittenState, ...], link: WrittenState) -> tuple[WrittenState, ...]:
    return (*(other for other in links if other.state != link.state), link)


@dataclass(kw_only=True, slots=True)
class History:
    """What one run wrote, table by table."""

    journal: PastJournal
    tables: dict[str, WrittenRows] = field(default_factory=dict)
    ended: bool = False
    """Whether the last event says that nothing follows."""
    _position: int = 0
    _seal: int | None = None
    """Of the line that ends there."""
    _lines: int = 0

    def read_on(self) -> None:
        """Read the journal from where it was left: its run may still go on.

        Raises OSError, and `JournalDamagedError` at a line that is not what the run wrote there: of
        its row nothing is known, and of the others not whether they are right.
        """
        for offset, line in self.journal.lines(self._position):
            self._position = offset + len(line)
            self._lines += 1
            event = sealed_event_of(line, self._seal) or {}
            self._seal = seal_of(line)
            self.ended = event.get("event") == END
            try:
                self._enter(offset, event)
            except (LookupError, ValueError, TypeError, AttributeError):
                raise JournalDamagedError(
                    self.journal, f"is damaged: its line {self._lines} is not what the run wrote"
                ) from None

    def _enter(self, offset: int, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind in ("run", END):
            return
        rows = self.tables.setdefault(event["table"], WrittenRows())
        if kind == "table":
            rows.columns = {name: event[name] for name in event.keys() - {"event", "table"}}
        elif kind == "replacing":
            rows.replacing(event, offset)
        elif kind == "outcome":
            rows.outcome(event)
