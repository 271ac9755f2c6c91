"""Defines what failing rows are compared by: their facets, each value with its counts.

Values only; knows neither SQL nor words for people.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

HOUR = "hour"
"""Hours since 1970-01-01 00:00 UTC of the creation."""
EDITED = "edited"
"""The same of the last edit, by updated_at; of stale rows alone."""
TENANT = "tenant"
MODEL = "model"
WRITTEN_BY = "written_by"
"""The transaction that wrote the row last, by its number in the server."""
CHECKS = "checks"
"""The checks that a row fails, as a JSON array of their names."""
DIMENSION = "dimension"
LONG = "long"
"""Whether the text is longer than the provider takes: "true" or NULL."""
KEY = "key"
"""A JSON array of the row's key, its tenant and the checks that it fails.

The key is written as PostgreSQL writes a row of its columns: (17), or (a,3).
"""
GROUP = "group:"
"""Begins the name of the facet of a column in `group_by`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """The rows that have one value; `value` None is NULL. `first` and `last` are of failing rows.

    Facets that only failing rows have count no others in `rows`.
    """

    value: str | None
    rows: int
    failing: int
    first: datetime | None = None
    last: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Facets:
    """The rows of a table by facet: the values with most failing rows first."""

    rows: int = 0
    failing: int = 0
    of: dict[str, tuple[Count, ...]] = field(default_factory=dict)
    distinct: dict[str, int] = field(default_factory=dict)
    """How many values each facet has, beyond those that are listed too."""

    def hit(self, facet: str) -> tuple[Count, ...]:
        """The values of a facet that failing rows have."""
        return tuple(count for count in self.of.get(facet, ()) if count.failing)

    def worst(self, facet: str) -> Count | None:
        """The value with most failing rows; None where there is none."""
        return next(iter(self.hit(facet)), None)

    def lift(self, count: Count) -> float:
        """How many times its share of all rows a value's share of the failing rows is."""
        if not (self.failing and count.rows and self.rows):
            return 0.0
        return (count.failing / self.failing) / (count.rows / self.rows)

    @property
    def groups(self) -> tuple[str, ...]:
        """The columns of `group_by` that were compared."""
        return tuple(name.removeprefix(GROUP) for name in self.of if name.startswith(GROUP))


def gathered(
    counts: Iterable[tuple[str, str | None, int, int, datetime | None, datetime | None, int]],
    *,
    total: str,
    on_key: Callable[[str], None] | None = None,
) -> Facets:
    """Facets from rows of (facet, value, rows, failing, first, last, how many values).

    The facet called `total` counts all rows. Keys, of which there may be very many, are not kept:
    `on_key` is called with each.
    """
    of: dict[str, list[Count]] = {}
    distinct: dict[str, int] = {}
    rows = failing = 0
    for facet, value, counted, failed, first, last, values in counts:
        if facet == total:
            rows, failing = counted, failed
            continue
        if facet == KEY:
            if on_key is not None and value is not None:
                on_key(value)
            continue
        of.setdefault(facet, []).append(
            Count(value=value, rows=counted, failing=failed, first=first, last=last)
        )
        distinct[facet] = values
    return Facets(
        rows=rows,
        failing=failing,
        of={facet: tuple(sorted(of[facet], key=lambda c: -c.failing)) for facet in of},
        distinct=distinct,
    )
