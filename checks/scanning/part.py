"""Says which part of a table a run looks at: which of its rows, and by which checks.

Values only. A check that a part leaves out is said to be left out; it is neither green nor red.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from checks.findings.finding import changed_words
from checks.scanning.gaps import gaps_of
from checks.settings.check_names import CANARIES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from checks.row_checks.row_check import AppliedCheck
    from checks.scanning.sample import Sample
    from checks.targets.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A check that was not made, of the table's rows or of those `beside` it."""

    check: str
    beside: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What is looked at of one table: every row by every check, unless it says otherwise."""

    changed_since: datetime | None = None
    """Only rows that changed at this time or later are read; None: of any age."""
    undated: bool = False
    """Whether all rows are read for want of a time that tells which of them changed."""
    failing_only: bool = False
    """Only rows without an embedding are read, through a partial index; totals are estimates."""
    sample: Sample | None = None
    """The rows that `sampled` checks look at; the others look at all."""
    sampled: frozenset[str] = frozenset()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether every row was read, so that what was not seen is not there."""
        return not self.failing_only and self.changed_since is None

    @property
    def why_left_out(self) -> str:
        """Why checks are left out, in words."""
        if self.failing_only:
            return (
                'totals = "estimated" reads the rows without an embedding and no others;'
                " a run of settings without it looks at the rest"
            )
        return (
            "it is about rows that did not change, too, and --since leaves these out;"
            " a run without it looks at them"
        )

    @property
    def words(self) -> tuple[str, ...]:
        """What was looked at and what was not, a line each; () where it was all."""
        lines = []
        if self.changed_since is not None:
            lines.append(f"only rows {changed_words(self.changed_since)} were looked at")
        if self.undated:
            lines.append(
                "looked at as a whole: --since needs created_at, updated_at or embedded_at to tell"
                " which rows changed"
            )
        if self.failing_only:
            lines.append("only rows without an embedding were read; totals are estimates")
        if self.left_out:
            names = (
                one.check if one.beside is None else f"{one.check} of {one.beside}"
                for one in self.left_out
            )
            lines.append(f"not looked at: {', '.join(names)}")
        return tuple(lines)

    def proves(self, check: str) -> bool:
        """Whether a check that holds here holds of every row."""
        looked = self.changed_since is None and check not in self.sampled
        return looked and not self.leaves_out(check)

    def leaves_out(self, check: str, beside: str | None = None) -> bool:
        if check in CANARIES:
            # They sample every tenant, and the whole ones are not known by name.
            return self.failing_only
        return LeftOut(check=check, beside=beside) in self.left_out


ORPHANS = "orphans"
WHOLE = Part()


def part_of(
    target: Target, checks: Sequence[AppliedCheck], *, sample: Sample | None = None
) -> tuple[Part, tuple[AppliedCheck, ...]]:
    """The part of a target that a run looks at, and those of its checks that this answers."""
    part = Part(
        changed_since=target.changed_since,
        undated=target.undated,
        failing_only=target.declared.totals == "estimated",
    )
    asked = tuple(
        check
        for check in checks
        if (not part.failing_only or check.proof or check.of_missing)
        # A source row may be gone though nothing of its chunk has changed.
        and (part.changed_since is None or check.name != ORPHANS)
    )
    left = [LeftOut(check=check.name) for check in checks if check not in asked]
    if not part.whole:
        left += [LeftOut(check=name, beside=beside) for name, beside in gaps_of(target)]
    sampled = frozenset(check.name for check in asked if sample and check.reads_vectors)
    return replace(
        part, sample=sample if sampled else None, sampled=sampled, left_out=tuple(left)
    ), asked
