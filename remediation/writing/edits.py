"""Remembers rows that were edited while we worked, and reads them again.

Reads the database; what becomes of the rows is for the caller to decide.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from remediation.journal.journal import row_of
from remediation.journal.outcomes import Outcome, RowOutcome
from remediation.writing.table_statements import FIRED_WITHIN, dated_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from checks.database.connection import Connection
    from remediation.journal.journal import Journal
    from remediation.selection.batching import FailingRow
    from remediation.selection.row_reader import RowReader

KEYS_AT_ONCE = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class _Edited:
    """A row to look at again: how it was, why, and the md5 of the vector we wrote, if any."""

    row: FailingRow
    reason: str
    written: str | None


@dataclass(kw_only=True, slots=True)
class Edits:
    """The edited rows of one table, by key; used by one thread."""

    reader: RowReader
    connection: Connection
    journal: Journal
    tenants: Sequence[str] | None
    _waiting: dict[tuple[str, ...], _Edited] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._waiting)

    def keep(self, outcome: RowOutcome) -> None:
        """Remember a superseded row that may still need us; its text is read again in time."""
        self._add(outcome.row, outcome.reason, outcome.written_hash)

    def find_after_write(
        self,
        reopen: Callable[[FailingRow, str], None],
        pause: Callable[[float], object],
    ) -> None:
        """Look at every row we fixed once more: an edit since then left it the old text's vector.

        The journal, not memory, remembers which rows those are. `reopen` is called with each such
        row and the note that its outcome carried. Pauses first until no row is dated ahead of the
        clock: an edit that this look is too early for would then count as older than the vector.
        """
        some: list[dict[str, Any]] = []
        ahead = dated_ahead(self.reader.target)
        for fixed in self.journal.fixed(self.reader.target.name):
            if ahead:
                pause(FIRED_WITHIN.total_seconds())
                ahead = False
            some.append(fixed)
            if len(some) == KEYS_AT_ONCE:
                self._find(some, reopen)
                some = []
        if some:
            self._find(some, reopen)

    def _find(
        self, fixed: Sequence[dict[str, Any]], reopen: Callable[[FailingRow, str], None]
    ) -> None:
        keys = [tuple(outcome["key"]) for outcome in fixed]
        texts = [outcome["text_md5"] for outcome in fixed]
        edited = [fixed[n] for n in self.reader.edited(self.connection, keys, texts)]
        if not edited:
            return
        now = self.reader.read_back(self.connection, [tuple(each["key"]) for each in edited])
        for outcome, current in zip(edited, now, strict=True):
            row, written = row_of(outcome), outcome["written_md5"]
            if (
                current is not None
                and current.vector_hash == written
                and current.text_hash != row.text_hash
                and row.key not in self._waiting
            ):
                reopen(row, outcome["reason"])
                self._add(row, "its text was edited meanwhile", written)

    def rows(self, settle: Callable[[list[RowOutcome]], None]) -> Iterator[FailingRow]:
        """The edited rows as they are now, where they still need us; `settle` takes the others."""
        edited, self._waiting = self._waiting, {}
        entries = list(edited.values())
        for start in range(0, len(entries), KEYS_AT_ONCE):
            some = entries[start : start + KEYS_AT_ONCE]
            found = self.reader.rows_by_key(
                self.connection,
                [entry.row.key for entry in some],
                [entry.written for entry in some],
                tenants=self.tenants,
            )
            present = {row.key for row in found}
            settle([_superseded(entry) for entry in some if entry.row.key not in present])
            for row in found:
                # A row that fails no check, but holds the vector we made of its old text.
                yield row if row.checks else replace(row, checks=edited[row.key].row.checks)

    def give_up(self) -> list[RowOutcome]:
        """Rows that are edited faster than they are repaired: reported, not hidden."""
        edited, self._waiting = self._waiting, {}
        return [_superseded(entry, f"{entry.reason}, and left so") for entry in edited.values()]

    def _add(self, row: FailingRow, reason: str, written: str | None) -> None:
        light = replace(row, text="", vector=None)
        self._waiting[row.key] = _Edited(row=light, reason=reason, written=written)


def _superseded(entry: _Edited, reason: str | None = None) -> RowOutcome:
    return RowOutcome(
        row=entry.row,
        outcome=Outcome.SUPERSEDED,
        reason=reason or entry.reason,
        written_hash=entry.written,
    )
