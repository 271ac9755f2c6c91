"""Defines what a scan measured, what is asked of it, and what was decided: plain values.

Touches no database and decides nothing; `tolerated_failures` is the one place where a share
becomes a number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal

    from checks.settings.table_checks import Severity


def tolerated_failures(rows: int, min_share: Decimal) -> int:
    """The most of `rows` that may fail while at least `min_share` (0 to 1) of them hold.

    Integers throughout: 10 rows at 0.9 tolerate exactly 1, which no float can promise.
    """
    numerator, denominator = min_share.as_integer_ratio()
    return rows * (denominator - numerator) // denominator


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One tenant's rows in one table; `tenant` None is a segment of its own (no tenant)."""

    table: str
    tenant: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One segment's counts.

    `failing` has a count for each row check that applies; `first` and `last` are the range of
    the creation times of its failing rows, None where unknown. `pending` rows are within their
    grace, `not_embeddable` ones have no text: neither fails.
    """

    segment: Segment
    rows: int
    failing: Mapping[str, int]
    first: Mapping[str, datetime | None]
    last: Mapping[str, datetime | None]
    pending: int
    not_embeddable: int
    uncounted: Literal["about", "at least"] | None = None
    """How sure `rows` is where they were not counted; None where they were."""
    sampled: int | None = None
    """How many of the rows the sampled checks looked at; None where there is no sample."""
    found: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What failing rows have in place of what is declared, as a model or a dimension: the first and
    the last of them in order, for a check where that is known."""
    affected: int = 0
    """Rows that fail at least one of the checks, each counted once."""
    at_least: bool = False
    """Whether further rows may be `affected`: some may fail two checks that count apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unlisted:
    """What is known of a table's rows beyond its measurements, where not every row was read."""

    rows: int | None = None
    """About how many rows the table has; None where the measurements count them all."""
    any: bool = False
    """Whether there is a row at all."""
    tenants: frozenset[str] = frozenset()
    """Tenants that have rows, of those that were asked for."""


NOTHING_UNLISTED = Unlisted()


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """What is asked of a row check: `min` is the share of rows that must hold, 1 meaning all.

    Raises ValueError where `min` is not between 0 and 1.
    """

    check: str
    min: Decimal
    severity: Severity
    says: str = field(default="", compare=False)
    """What is wrong with a failing row, completing "rows that …"."""

    @property
    def words(self) -> str:
        """The threshold in words, for a person who reads the suite."""
        failing = f"rows that {self.says}" if self.says else "failing rows"
        if self.min == 1:
            return f"no segment has {failing}"
        return f"at least {self.min:%} of each segment's rows hold, and the rest are {failing}"

    def __post_init__(self) -> None:
        if not (self.min.is_finite() and 0 <= self.min <= 1):
            raise ValueError(
                f"min of {self.check} must be between 0 and 1, found {self.min}: "
                "write the share of rows that must hold, such as 0.999"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """What a canary saw of a segment's sample, in its own words, or why it saw nothing."""

    says: str = ""
    """What is wrong, completing "3 of 5 sampled rows …"."""
    query: str | None = None
    """A statement that shows the sampled rows that fail."""
    unseen: str | None = None
    """Why it could not look, which is neither a pass nor a failure of the rows."""
    nothing: str | None = None
    """Why there was nothing to look at, where that is allowed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether a check holds for a segment: `failing` of `rows`, of which `tolerated` may.

    A canary's `rows` are those of its sample, and `sampled` has its words.
    """

    check: str
    segment: Segment
    rows: int
    failing: int
    tolerated: int
    holds: bool
    severity: Severity
    sampled: Sampled | None = None

    @classmethod
    def not_seen(cls, check: str, segment: Segment, reason: str) -> Verdict:
        """The verdict of a canary that could not look at a segment: neither a pass nor a failure.

        It is an error even where the canary's findings are warnings.
        """
        return cls(
            check=check,
            segment=segment,
            rows=0,
            failing=0,
            tolerated=0,
            holds=False,
            severity="error",
            sampled=Sampled(unseen=reason),
        )
