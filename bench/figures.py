"""Times work and its baseline in turn, and holds what was measured as tables."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROUNDS = 3
"""Each side is timed so often, in turn; the medians are told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """What a benchmark measured, in words. Its text is Markdown."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def __str__(self) -> str:
        lines = (self.columns, ("---",) * len(self.columns), *self.rows)
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def in_turn(
    *sides: Callable[[], float],
    rounds: int = ROUNDS,
    before: Callable[[], object] = lambda: None,
) -> tuple[float, ...]:
    """The median of the seconds that each side returns; `before` is called ahead of each."""
    seconds: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, taken in zip(sides, seconds, strict=True):
            before()
            taken.append(side())
    return tuple(statistics.median(taken) for taken in seconds)


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """The work, as a side that returns its seconds."""

    def side() -> float:
        begun = perf_counter()
        work()
        return perf_counter() - begun

    return side


def scaled(number: int, scale: float, least: int) -> int:
    """A benchmark's size in a trial at a fraction of it."""
    return max(least, round(number * scale))
