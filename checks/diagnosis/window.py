"""Finds the stretch of time in which most of the failing rows were created.

Computes only, on counts by hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from checks.diagnosis.facets import Count

CORE = 0.8
"""The share of the failing rows that the shortest window must hold before it is widened."""
NEIGHBOUR = timedelta(hours=2)
"""How far apart hours with failing rows may be and still be one window, at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """From the first to the last failing row in it; `rows` were created in its hours in all."""

    first: datetime
    last: datetime
    failing: int
    rows: int

    @property
    def length(self) -> timedelta:
        return self.last - self.first


def window_of(hours: Sequence[Count]) -> Window | None:
    """The shortest window that holds most failing rows, with what adjoins it; None without times.

    It grows over gaps no longer than the longest within it, so that a quiet hour at its edge does
    not cut off what belongs to it.
    """
    dated = sorted((hour for hour in hours if hour.value is not None), key=_place)
    failing = [hour for hour in dated if hour.failing and hour.first and hour.last]
    if not failing:
        return None
    first, last = _shortest(failing, CORE * sum(hour.failing for hour in failing))
    longest = max(
        (
            _place(b) - _place(a)
            for a, b in zip(failing[first:last], failing[first + 1 : last + 1], strict=True)
        ),
        default=0,
    )
    reach = max(longest, NEIGHBOUR // timedelta(hours=1))
    while first > 0 and _place(failing[first]) - _place(failing[first - 1]) <= reach:
        first -= 1
    while last + 1 < len(failing) and _place(failing[last + 1]) - _place(failing[last]) <= reach:
        last += 1
    begin, end = failing[first], failing[last]
    assert begin.first is not None
    assert end.last is not None
    return Window(
        first=begin.first,
        last=end.last,
        failing=sum(hour.failing for hour in failing[first : last + 1]),
        rows=sum(hour.rows for hour in dated if _place(begin) <= _place(hour) <= _place(end)),
    )


def _place(hour: Count) -> int:
    return int(hour.value or 0)


def _shortest(hours: Sequence[Count], wanted: float) -> tuple[int, int]:
    """The first and last position of the shortest run of hours that holds the wanted rows."""
    best, held, first = (0, len(hours) - 1), 0, 0
    for last, hour in enumerate(hours):
        held += hour.failing
        while held - hours[first].failing >= wanted:
            held -= hours[first].failing
            first += 1
        if held >= wanted and (
            _place(hour) - _place(hours[first]) < _place(hours[best[1]]) - _place(hours[best[0]])
        ):
            best = (first, last)
    return best
