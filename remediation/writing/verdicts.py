"""Judges what became of a written row: by what was read, written and is there now.

Decides on values alone; asks neither database nor provider.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic

from remediation.journal.journal import Changed
from remediation.journal.outcomes import Outcome, RowOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from remediation.selection.batching import FailingRow, Key
    from remediation.selection.row_reader import CurrentRow


@dataclass(kw_only=True, slots=True)
class Attempt:
    """What our writes of some rows did, over all tries."""

    locked: set[tuple[str, ...]] = field(default_factory=set)
    """Keys of rows that no other session held: the UPDATE could reach them."""
    stored: dict[tuple[str, ...], str | None] = field(default_factory=dict)
    """Keys of rows that were written, with the md5 of what was stored (a trigger may change it)."""
    uncertain: bool = False
    """A COMMIT may have gone unanswered."""


def joined(attempts: Iterable[Attempt]) -> Attempt:
    """What several attempts did, as a new one."""
    every = Attempt()
    for attempt in attempts:
        every.locked |= attempt.locked
        every.stored |= attempt.stored
        every.uncertain |= attempt.uncertain
    return every


def still_locked(row: FailingRow, now: CurrentRow | None, attempt: Attempt) -> bool:
    """Whether another session holds the row, which shows no change that would settle it."""
    return (
        row.key not in attempt.locked
        and row.key not in attempt.stored
        and now is not None
        and now.tenant == row.tenant
        and now.text_hash == row.text_hash
        and now.vector_hash == row.vector_hash
        and now.missing == row.missing
        and now.beside == row.beside
    )


def judge_write(
    row: FailingRow,
    now: CurrentRow | None,
    attempt: Attempt,
    *,
    about_sets: frozenset[str] = frozenset(),
) -> RowOutcome:
    """The outcome of a row that our write reached, or that changed before it could.

    Checks `about_sets` say nothing of a vector that we wrote: it may rightly be the one it was.
    """
    wrote = row.key in attempt.stored
    stored = attempt.stored.get(row.key)
    if now is None:
        reason = "deleted, or out of the declared scope, meanwhile"
        return RowOutcome(row=row, outcome=Outcome.SUPERSEDED, reason=reason)
    still = tuple(name for name in row.checks if name in now.failing)
    changed = _change(row, now)
    if changed is not None:
        stale = stored is not None and now.vector_hash == stored
        return RowOutcome(
            row=row,
            outcome=Outcome.SUPERSEDED,
            reason=changed,
            written_hash=stored,
            try_again=bool(now.failing) or stale,
        )
    expected = (stored, False) if wrote else (row.vector_hash, row.missing)
    touched = not wrote and now.beside != row.beside
    if touched or (now.vector_hash, now.missing) != expected:
        # Where it fails again what it was written for, a trigger may undo every write of ours.
        return RowOutcome(
            row=row,
            outcome=Outcome.SUPERSEDED,
            reason="repaired or changed by someone else meanwhile",
            written_hash=stored,
            try_again=bool(now.failing),
            unhealed=still if wrote else (),
        )
    if not wrote:
        return RowOutcome(
            row=row,
            outcome=Outcome.FAILED,
            reason="not written, though nothing changed: a trigger, rule or policy is in the way",
            unhealed=row.checks,
        )
    still = tuple(name for name in still if name not in about_sets)
    if still:
        return RowOutcome(
            row=row,
            outcome=Outcome.FAILED,
            reason=f"still fails {', '.join(still)} after it was written",
            written_hash=stored,
            unhealed=still,
        )
    before = about_sets.union(row.checks)
    broke = (
        *(name for name in now.failing if name not in before),
        *(name for name in now.broken if name not in row.broken),
    )
    if broke:
        return RowOutcome(
            row=row,
            outcome=Outcome.FAILED,
            reason=f"fails {', '.join(broke)} since it was written, and did not before",
            written_hash=stored,
            broke=broke,
        )
    return RowOutcome(row=row, outcome=Outcome.FIXED, written_hash=stored)


def unread_outcome(
    row: FailingRow,
    outcome: Outcome,
    reason: str,
    attempt: Attempt,
    *,
    unhealed: tuple[str, ...] = (),
) -> RowOutcome:
    """The outcome of a row that is given up before it was read back: what is known of its write.

    A write that was committed, or may have been, is for an undo to know.
    """
    return RowOutcome(
        row=row,
        outcome=outcome,
        reason=reason,
        written_hash=attempt.stored.get(row.key),
        unhealed=unhealed,
        uncertain=attempt.uncertain or row.key in attempt.stored,
    )


def _change(row: FailingRow, now: CurrentRow) -> str | None:
    """How the row differs in what its embedding stands for, or None."""
    if now.tenant != row.tenant:
        return "moved to another tenant meanwhile"
    if now.text_hash != row.text_hash:
        return "its text was edited meanwhile"
    return None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LockedRow(Generic[Changed]):
    """A row that another session holds, or that was not tried yet; its change is in hand."""

    new: Changed
    attempt: Attempt
    """What our writes of it did so far."""
    whole: bool = False
    """Whether the other session holds the table, as far as this try could see."""
    kept: bool = True
    """Whether what is to be replaced is kept already."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Written(Generic[Changed]):
    """What became of each row, in order; `stopped` says why no more may be written at all."""

    outcomes: tuple[RowOutcome, ...]
    held: tuple[LockedRow[Changed], ...] = ()
    """Rows without an outcome, to be written later; those that were not tried come first."""
    stopped: str | None = None


def held_now(
    rows: Sequence[Changed], attempt: Attempt, *, whole: bool = False
) -> dict[Key, RowOutcome | LockedRow[Changed]]:
    """Rows that a try could not have, by key; `whole`: nor anything of their table."""
    return {new.row.key: LockedRow(new=new, attempt=attempt, whole=whole) for new in rows}


def untried(
    new: Changed, known: Mapping[Key, LockedRow[Changed]], *, whole: bool
) -> LockedRow[Changed]:
    """A row that was not tried, with what is known of it from before."""
    before = known.get(new.row.key)
    if before is None:
        return LockedRow(new=new, attempt=Attempt(), whole=whole, kept=False)
    return replace(before, whole=whole)


def is_kept(new: Changed, known: Mapping[Key, LockedRow[Changed]]) -> bool:
    """Whether what the change replaces is kept already."""
    before = known.get(new.row.key)
    return before is not None and before.kept
