"""Defines the affected tables of an incident: segments, their counts before and after.

Holds no text of any row, and no secret: every free text passes the redactor when a value is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
)

from checks.redaction import redactor


def _encodable(value: object) -> object:
    # Words of a command line may hold lone surrogates, which neither UTF-8 nor JSON can carry.
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value


RedactedText = Annotated[str, BeforeValidator(_encodable), AfterValidator(redactor.clean)]
"""Free text from outside: a name, a message, an SQL statement. Registered secrets are replaced."""

UtcTime = Annotated[AwareDatetime, AfterValidator(lambda time: time.astimezone(UTC))]

RowTime = datetime
"""When a row was created, as stored: with a zone or without one."""


class ReportValue(BaseModel):
    """Base of the report's values: frozen, keyword-only, unknown keys refused."""

    # Without "strings" a cosine that is NaN would become null and could not be read back.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


@dataclass(frozen=True, kw_only=True, slots=True)
class RowCount:
    """A number of distinct rows; a lower bound where it is not `exact`."""

    rows: int
    exact: bool = True

    def __add__(self, other: RowCount) -> RowCount:
        return RowCount(rows=self.rows + other.rows, exact=self.exact and other.exact)


class SegmentCounts(ReportValue):
    """One tenant's rows in one table. `before` and `after` map a row check to its failing rows.

    `tenant` None is the NULL tenant, or every row of a table that declares no tenant. `after` None:
    not examined again. `first` and `last` are the failing rows' range of creation times; times
    without a zone are shown as stored.
    """

    tenant: RedactedText | None
    rows: NonNegativeInt
    uncounted: Literal["about", "at least"] | None = None
    """How sure `rows` is where they were not counted."""
    before: dict[RedactedText, NonNegativeInt]
    after: dict[RedactedText, NonNegativeInt] | None = None
    affected_before: NonNegativeInt | None = None
    """Rows that failed at least one check, each counted once; None: only the counts are known."""
    affected_after: NonNegativeInt | None = None
    first: RowTime | None = None
    last: RowTime | None = None
    not_embeddable: NonNegativeInt = 0
    pending: NonNegativeInt = 0

    @property
    def failing_before(self) -> RowCount:
        return _distinct(self.before, self.affected_before)

    @property
    def failing_after(self) -> RowCount | None:
        return None if self.after is None else _distinct(self.after, self.affected_after)

    @property
    def failing_now(self) -> RowCount:
        """What is known of the end: the count after the repair, else the one before it."""
        return self.failing_before if self.failing_after is None else self.failing_after

    @property
    def healthy(self) -> bool:
        return self.failing_before.rows == 0 and self.failing_now.rows == 0


def _distinct(counts: dict[str, int], affected: int | None) -> RowCount:
    """The rows that fail any check: a lower bound where only the counts of several are known."""
    if affected is not None:
        return RowCount(rows=affected)
    failing = [count for count in counts.values() if count]
    return RowCount(rows=max(failing, default=0), exact=len(failing) <= 1)


class TableReport(ReportValue):
    """One declared table. The expressions are as declared; `tenant` None: it declares no tenant.

    `segments_total` counts the segments seen; `segments` may leave out healthy ones.
    `error` says why the table could not be examined, and is None when it was.
    """

    name: RedactedText
    examined: bool = True
    error: RedactedText | None = None
    rows: NonNegativeInt = 0
    estimated: bool = False
    """Whether `rows` is an estimate."""
    looked_at: tuple[RedactedText, ...] = ()
    """Which part was looked at and which was not, and what would spare reading; () for all."""
    scan_seconds: NonNegativeFloat = 0.0
    """What the first scan of it took."""
    scan_sql: RedactedText | None = None
    """The statement of that scan; None but for the few tables that took longest."""
    segments_total: NonNegativeInt = 0
    text: RedactedText | None = None
    embedding: RedactedText | None = None
    tenant: RedactedText | None = None
    segments: tuple[SegmentCounts, ...] = ()

    @cached_property
    def affected(self) -> tuple[SegmentCounts, ...]:
        """The segments with failing rows, the worst first."""
        hit = [segment for segment in self.segments if not segment.healthy]
        return tuple(
            sorted(
                hit,
                key=lambda one: (
                    -one.failing_before.rows,
                    -one.failing_now.rows,
                    one.tenant is None,
                    one.tenant or "",
                ),
            )
        )

    @property
    def healthy_segments(self) -> int:
        return max(self.segments_total, len(self.segments)) - len(self.affected)

    @cached_property
    def failing_before(self) -> RowCount:
        return sum((one.failing_before for one in self.segments), RowCount(rows=0))

    @cached_property
    def failing_now(self) -> RowCount:
        return sum((one.failing_now for one in self.segments), RowCount(rows=0))

    @property
    def re_examined(self) -> bool:
        return any(one.after is not None for one in self.segments)
