"""Gives each row of a table's parts one outcome, from the journal's lines that its workers sent.

A part may be begun by several workers, one after another; the last word on a row counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from remediation.journal.outcomes import Account, Outcome, RowOutcome
from remediation.selection.batching import FailingRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from checks.database.connection import Connection
    from remediation.journal.journal import Journal
    from remediation.selection.batching import Key
    from remediation.selection.row_reader import RowReader

KEYS_AT_ONCE = 2_000
REPAIRED_MEANWHILE = "no longer failed when its turn came"


@dataclass(kw_only=True, slots=True)
class PartOutcomes:
    """Of one table; used by one thread."""

    reader: RowReader
    connection: Connection
    journal: Journal
    on_outcome: Callable[[Outcome], None]
    account: Account = field(default_factory=Account)
    _open: dict[int, int] = field(default_factory=dict)
    """The parts that have not ended, and their numbers of rows."""
    _last: dict[Key, dict[str, Any]] = field(default_factory=dict)
    """The last outcome of each row of an open part."""
    _writing: dict[Key, dict[str, Any]] = field(default_factory=dict)
    """Rows that were about to be overwritten, without an outcome since."""

    @property
    def open_parts(self) -> bool:
        """Whether a part has not ended."""
        return bool(self._open)

    def select(self, number: int, rows: int) -> None:
        """Take in a part, each row of which must get an outcome."""
        self._open[number] = rows
        self.account.selected += rows

    def learn(self, line: bytes) -> None:
        """Take in a line of the journal."""
        event = from_json(line)
        if event.get("table") != self.reader.target.name:
            return
        if event["event"] == "outcome":
            key = tuple(event["key"])
            if key not in self._last:
                self.on_outcome(Outcome(event["outcome"]))
            self._last[key] = event
            self._writing.pop(key, None)
        elif event["event"] == "replacing":
            key = tuple(event["key"])
            self._writing[key] = {**event, "vector": None, "beside": None}

    def fold(self, number: int, keys: Sequence[Key], *, unread: str | None) -> None:
        """Settle the rows of a part that has ended; `unread`: why some may not have been read."""
        if self._open.pop(number, None) is None:
            return
        silent = []
        for key in keys:
            event = self._last.pop(key, None)
            if event is None:
                silent.append(key)
            else:
                self._add(_row(event), Outcome(event["outcome"]), event["reason"])
        for start in range(0, len(silent), KEYS_AT_ONCE):
            self._settle_silent(silent[start : start + KEYS_AT_ONCE], unread)

    def settle_rest(self, reason: str) -> None:
        """Settle the rows of parts that never ended."""
        for event in self._last.values():
            self._add(_row(event), Outcome(event["outcome"]), event["reason"])
        rest = sum(self._open.values()) - len(self._last)
        self._last.clear()
        self._open.clear()
        for _ in range(rest):
            self._add(_nobody, Outcome.SKIPPED, reason)
            self.on_outcome(Outcome.SKIPPED)

    def _settle_silent(self, keys: Sequence[Key], unread: str | None) -> None:
        """Settle rows of which no worker said what became of them.

        Either a killed worker wrote them and could not say so, or somebody else repaired them.
        """
        now = self.reader.read_back(self.connection, keys)
        fixed = []
        for key, current in zip(keys, now, strict=True):
            event = self._writing.pop(key, None)
            tenant = None if current is None else current.tenant
            row = _nobody if event is None else _row(event)
            if (
                event is not None
                and current is not None
                and (current.vector_hash == event["writing_md5"])
            ):
                outcome, reason = Outcome.FIXED, ""
                written = event["writing_md5"]
                fixed.append(RowOutcome(row=row, outcome=outcome, written_hash=written))
            elif current is not None and current.failing and unread:
                outcome, reason = Outcome.SKIPPED, unread
            elif current is not None and current.failing:
                outcome, reason = Outcome.SUPERSEDED, "changed meanwhile, and fails anew"
            else:
                outcome, reason = Outcome.SUPERSEDED, REPAIRED_MEANWHILE
            self._add(_row({"key": key, "tenant": tenant}), outcome, reason)
            self.on_outcome(outcome)
        # An undo is to know them, as it would have from their worker.
        self.journal.outcomes(self.reader.target.name, fixed)

    def _add(self, row: FailingRow, outcome: Outcome, reason: str) -> None:
        self.account.add(row, outcome, reason)


def _row(event: dict[str, Any]) -> FailingRow:
    return FailingRow(
        key=tuple(event["key"]),
        tenant=event["tenant"],
        text="",
        text_hash=event.get("text_md5", ""),
        vector_hash=None,
        checks=tuple(event.get("checks", ())),
    )


_nobody = FailingRow(key=(), tenant=None, text="", text_hash="", vector_hash=None, checks=())
