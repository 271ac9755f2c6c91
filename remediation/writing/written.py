"""What a write came to: an outcome of each row, or the row handed back as another session holds it.

Values only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic

from remediation.writing.changes import Changed, Key
from remediation.writing.verdicts import Attempt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from remediation.journal.outcomes import RowOutcome


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Held(Generic[Changed]):
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
    held: tuple[Held[Changed], ...] = ()
    """Rows without an outcome, to be written later; those that were not tried come first."""
    stopped: str | None = None


def held_now(
    rows: Sequence[Changed], attempt: Attempt, *, whole: bool = False
) -> dict[Key, RowOutcome | Held[Changed]]:
    """Rows that a try could not have, by key; `whole`: nor anything of their table."""
    return {new.row.key: Held(new=new, attempt=attempt, whole=whole) for new in rows}


def untried(new: Changed, known: Mapping[Key, Held[Changed]], *, whole: bool) -> Held[Changed]:
    """A row that was not tried, with what is known of it from before."""
    before = known.get(new.row.key)
    if before is None:
        return Held(new=new, attempt=Attempt(), whole=whole, kept=False)
    return replace(before, whole=whole)


def is_kept(new: Changed, known: Mapping[Key, Held[Changed]]) -> bool:
    """Whether what the change replaces is kept already."""
    before = known.get(new.row.key)
    return before is not None and before.kept
