"""Gives each row of a table's parts one outcome, from the journal's lines that its workers sent.

A part may be begun by several workers, one after another; the last word on a row counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from remediation.distributed.shared.journal import PUT_ASIDE
from remediation.journal.outcomes import Outcome, RowOutcome
from remediation.journal.throughput import OF_A_PART, Throughput
from remediation.selection.batching import FailingRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from checks.database.connection import Connection
    from remediation.journal.journal import Journal
    from remediation.journal.outcomes import Account
    from remediation.selection.batching import Key
    from remediation.selection.put_aside import KeyedRow
    from remediation.selection.row_reader import RowReader

ROWS_AT_ONCE = 2_000
REPAIRED_MEANWHILE = "no longer failed when its turn came"
FAILS_ANEW = "changed meanwhile, and fails anew"


@dataclass(kw_only=True, slots=True)
class PartOutcomes:
    """Of one table; used by one thread."""

    reader: RowReader
    connection: Connection
    journal: Journal
    on_outcome: Callable[[Outcome], None]
    account: Account
    throughput: Throughput | None = None
    """Of all jobs that were ended so far."""
    _open: dict[int, int] = field(default_factory=dict)
    """The parts that have not ended, and their numbers of rows."""
    _last: dict[Key, dict[str, Any]] = field(default_factory=dict)
    """The last outcome of each row of an open part."""
    _writing: dict[Key, dict[str, Any]] = field(default_factory=dict)
    """Rows that were about to be overwritten, without an outcome since."""
    _put_aside: set[Key] = field(default_factory=set)
    """Rows of an open part that are for later."""

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
            self._put_aside.discard(key)
        elif event["event"] == PUT_ASIDE:
            self._put_aside.add(tuple(event["key"]))
        elif event["event"] == OF_A_PART:
            measured = Throughput.of(event)
            self.throughput = measured if self.throughput is None else self.throughput + measured
        elif event["event"] == "replacing":
            key = tuple(event["key"])
            self._writing[key] = {**event, "vector": None, "beside": None}

    def fold(self, number: int, rows: Sequence[KeyedRow], *, unread: str | None) -> list[KeyedRow]:
        """Settle the rows of a part that has ended; `unread`: why some may not have been read.

        Returns those that were put aside: they are selected no more.
        """
        silent = self._settle_told(number, rows)
        aside = [row for row in silent if row[1:] in self._put_aside]
        silent = [row for row in silent if row[1:] not in self._put_aside]
        self._put_aside.difference_update(row[1:] for row in aside)
        self.account.selected -= len(aside)
        for start in range(0, len(silent), ROWS_AT_ONCE):
            self._settle_silent(silent[start : start + ROWS_AT_ONCE], unread)
        return aside

    def leave(self, number: int, rows: Sequence[KeyedRow], reason: str) -> None:
        """Settle the rows of a part that has not ended; skipped: those of which nobody told."""
        for tenant, *key in self._settle_told(number, rows):
            self._add(tuple(key), tenant, Outcome.SKIPPED, reason)

    def settle_rest(self, reason: str) -> None:
        """Settle, without the database, what parts are left."""
        for event in list(self._last.values()):
            self._add_told(event)
        rest = sum(self._open.values()) - len(self._last)
        self._last.clear()
        self._open.clear()
        for _ in range(rest):
            self._add((), None, Outcome.SKIPPED, reason)

    def _settle_told(self, number: int, rows: Sequence[KeyedRow]) -> list[KeyedRow]:
        """Settle the rows of which a worker told; returns the others."""
        if self._open.pop(number, None) is None:
            return []
        silent = []
        for row in rows:
            event = self._last.pop(row[1:], None)
            if event is None:
                silent.append(row)
            else:
                self._add_told(event)
        return silent

    def _settle_silent(self, rows: Sequence[KeyedRow], unread: str | None) -> None:
        """Settle rows of which no worker said what became of them.

        Either a killed worker wrote them and could not say so, or somebody else repaired them.
        """
        now = self.reader.read_back(self.connection, [row[1:] for row in rows])
        fixed = []
        for (tenant, *columns), current in zip(rows, now, strict=True):
            key = tuple(columns)
            event = self._writing.pop(key, None)
            written = None if event is None else event["writing_md5"]
            if event is not None and current is not None and current.vector_hash == written:
                fixed.append(
                    RowOutcome(row=_row(event), outcome=Outcome.FIXED, written_hash=written)
                )
                self._add(key, tenant, Outcome.FIXED, "")
            elif current is None or not current.failing:
                self._add(key, tenant, Outcome.SUPERSEDED, REPAIRED_MEANWHILE)
            elif unread:
                self._add(key, tenant, Outcome.SKIPPED, unread)
            else:
                self._add(key, tenant, Outcome.SUPERSEDED, FAILS_ANEW)
        # An undo is to know them, as it would have from their worker.
        self.journal.outcomes(self.reader.target.name, fixed)

    def _add_told(self, event: dict[str, Any]) -> None:
        self.account.add(_row(event), Outcome(event["outcome"]), event["reason"])

    def _add(self, key: Key, tenant: str | None, outcome: Outcome, reason: str) -> None:
        """Add an outcome that no worker told of."""
        self.account.add(_row({"key": key, "tenant": tenant}), outcome, reason)
        self.on_outcome(outcome)


def _row(event: dict[str, Any]) -> FailingRow:
    return FailingRow(
        key=tuple(event["key"]),
        tenant=event["tenant"],
        text="",
        text_hash=event.get("text_md5", ""),
        vector_hash=None,
        checks=tuple(event.get("checks", ())),
    )
