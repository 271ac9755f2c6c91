"""Counts what became of each row; the account must add up: selected = sum of outcomes.

Values and counts only.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from remediation.selection.batching import FailingRow

SAMPLE_KEYS = 5
"""Keys kept for each group of rows with the same outcome and reason."""
MOST_REASONS = 200
"""Reasons told apart: some name what is a row's own, such as its length, and rows are many."""
OTHER_REASONS = "for other reasons, which the journal names"


RowName: TypeAlias = tuple[str, tuple[str, ...]]
"""A row by its table and its key."""


class Outcome(enum.StrEnum):
    """What became of a selected row."""

    FIXED = "fixed"
    """Written, read back, and no selected check fails it."""
    SUPERSEDED = "superseded"
    """Changed by someone else meanwhile; their change was not overwritten."""
    QUARANTINED = "quarantined"
    """The provider will never take its text."""
    FAILED = "failed"
    """Not repaired; may work next time."""
    SKIPPED = "skipped"
    """Not tried, or not written: a cap, a lock, or a repair that stopped."""
    RESTORED = "restored"
    """In a rollback: the row is again as it was before the run that is rolled back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """What the provider refused for good: the model that was asked, and the md5 of the text."""

    model: str
    sent_md5: str

    @property
    def entry(self) -> dict[str, str]:
        """The form in which the journal holds it."""
        return {"model": self.model, "sent_md5": self.sent_md5}


@dataclass(frozen=True, kw_only=True, slots=True)
class RowOutcome:
    """One row's outcome; `written_hash` is the md5 of the vector that was committed, if any."""

    row: FailingRow
    outcome: Outcome
    reason: str = ""
    written_hash: str | None = None
    try_again: bool = False
    """Whether a superseded row may still need an embedding: this run selects it again."""
    unhealed: tuple[str, ...] = ()
    """Checks that the row still fails although only our write came between."""
    broke: tuple[str, ...] = ()
    """Checks that the row fails since our write, and did not before."""
    uncertain: bool = False
    """Whether its COMMIT went unanswered and it was not read back: it may have been written."""
    refused: Refused | None = None
    """What the provider refused, where that is the reason."""

    @property
    def written(self) -> bool:
        """Whether our write was committed; a rollback's may leave no vector."""
        return self.written_hash is not None or self.outcome is Outcome.RESTORED


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeGroup:
    """Rows of one tenant with the same outcome for the same reason."""

    tenant: str | None
    outcome: Outcome
    reason: str
    rows: int
    sample_keys: tuple[tuple[str, ...], ...]


@dataclass(kw_only=True, slots=True)
class Account:
    """The outcomes of one table's repair, added up as they come."""

    selected: int = 0
    _groups: dict[tuple[str | None, Outcome, str], list[tuple[str, ...]]] = field(
        default_factory=dict
    )
    _counts: dict[tuple[str | None, Outcome, str], int] = field(default_factory=dict)
    _reasons: set[str] = field(default_factory=set)

    def add(self, row: FailingRow, outcome: Outcome, reason: str) -> None:
        """Enter the final outcome of a row."""
        group = (row.tenant, outcome, self._told(reason))
        self._counts[group] = self._counts.get(group, 0) + 1
        keys = self._groups.setdefault(group, [])
        if len(keys) < SAMPLE_KEYS:
            keys.append(row.key)

    def reopen(self, tenant: str | None, reason: str) -> None:
        """Take back one `fixed`: the row's text was edited after its write; it is tried again."""
        self._counts[(tenant, Outcome.FIXED, self._told(reason))] -= 1

    def _told(self, reason: str) -> str:
        """The reason, where it is one of those told apart: each stays what it was taken for."""
        if len(self._reasons) < MOST_REASONS:
            self._reasons.add(reason)
        return reason if reason in self._reasons else OTHER_REASONS

    def count(self, outcome: Outcome) -> int:
        """Rows with an outcome, over all tenants and reasons."""
        return sum(rows for (_, kind, _), rows in self._counts.items() if kind is outcome)

    @property
    def sample_keys_left(self) -> list[tuple[str, ...]]:
        """The keys of a few rows of each group that was not fixed."""
        return [
            key
            for group in self.groups
            if group.outcome is not Outcome.FIXED
            for key in group.sample_keys
        ]

    @property
    def settled(self) -> int:
        """Rows that have their outcome."""
        return sum(self._counts.values())

    @property
    def groups(self) -> tuple[OutcomeGroup, ...]:
        """The account by tenant, outcome and reason, largest group first."""
        return tuple(
            OutcomeGroup(
                tenant=tenant,
                outcome=outcome,
                reason=reason,
                rows=rows,
                sample_keys=tuple(self._groups[(tenant, outcome, reason)]),
            )
            for (tenant, outcome, reason), rows in sorted(
                self._counts.items(), key=lambda entry: -entry[1]
            )
            if rows
        )
