"""Gives every selected row one outcome, and enters it in the account and the journal.

Does not decide outcomes; makes sure that none is missing or counted twice.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from remediation.journal.journal import journal_words
from remediation.journal.outcomes import Account, Outcome, RowOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from remediation.journal.journal import Journal
    from remediation.selection.batching import FailingRow


@dataclass(kw_only=True, slots=True)
class OutcomeLedger:
    """Settles the outcomes of one table. Used by one thread."""

    table: str
    journal: Journal
    on_outcome: Callable[[Outcome], None]
    on_broken_journal: Callable[[str], None]
    """Called with the reason when the journal cannot be written; the account still is."""
    account: Account = field(default_factory=Account)
    _open: dict[tuple[str, ...], FailingRow] = field(default_factory=dict)
    _notes: dict[tuple[str, ...], str] = field(default_factory=dict)

    def select(self, row: FailingRow) -> None:
        """Take in a selected row, which must get an outcome from now on."""
        self.account.selected += 1
        self._open[row.key] = row

    def put_aside(self, row: FailingRow) -> None:
        """Take back a selected row, which is read and selected again later."""
        if self._open.pop(row.key, None) is not None:
            self.account.selected -= 1
            self._notes.pop(row.key, None)

    def note(self, row: FailingRow, words: str) -> None:
        """Note what was done to a row's text: the reason that goes with its `fixed`."""
        if words:
            self._notes[row.key] = words
        else:
            self._notes.pop(row.key, None)

    def reopen(self, row: FailingRow, note: str) -> None:
        """Take back a `fixed`: the row's text was edited after its write."""
        self.account.reopen(row.tenant, note)
        self._open[row.key] = row

    def settle(self, outcomes: Sequence[RowOutcome]) -> None:
        """Enter final outcomes, in the journal last."""
        noted = []
        for outcome in outcomes:
            if self._open.pop(outcome.row.key, None) is None:
                continue
            note = self._notes.pop(outcome.row.key, "")
            fixed = outcome.outcome is Outcome.FIXED
            noted.append(replace(outcome, reason=note) if fixed and note else outcome)
            self.account.add(outcome.row, outcome.outcome, noted[-1].reason)
        with self._told():
            for outcome in noted:
                self.on_outcome(outcome.outcome)
            self.journal.outcomes(self.table, noted)

    def enter(self, outcomes: Sequence[RowOutcome]) -> None:
        """Enter outcomes in the journal alone: final ones, and others that an undo must know."""
        with self._told():
            self.journal.outcomes(self.table, outcomes)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """End the work where the journal cannot be written; the account has the outcomes."""
        try:
            yield
        except OSError as error:
            self.on_broken_journal(journal_words(error))

    def finish(self) -> None:
        """Have every outcome on disk."""
        with self._told():
            self.journal.sync()

    def skip(self, rows: Iterable[FailingRow], reason: str) -> None:
        """Settle rows that were not tried as skipped."""
        self.settle([outcome_of(row, Outcome.SKIPPED, reason) for row in rows])

    def skip_open(self, reason: str) -> None:
        """Settle all rows without an outcome as skipped."""
        rows = list(self._open.values())
        skipped = [outcome_of(row, Outcome.SKIPPED, reason) for row in rows]
        # Nobody knows whether a row that was in flight was written.
        self.settle([replace(outcome, uncertain=True) for outcome in skipped])

    def skip_unread(self, rows: Iterable[FailingRow], reason: str) -> None:
        """Count unread rows as skipped: in the account alone, as there may be millions."""
        for row in rows:
            self.account.selected += 1
            self.account.add(row, Outcome.SKIPPED, reason)
            self.on_outcome(Outcome.SKIPPED)


def outcome_of(row: FailingRow, outcome: Outcome, reason: str) -> RowOutcome:
    """An outcome without a write."""
    return RowOutcome(row=row, outcome=outcome, reason=reason)
