"""Times work and its baseline in turn, and writes the ratios as a table."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROUNDS = 3
"""Each side is timed so often, in turn; the medians are told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """The seconds of a piece of work, and those of its baseline."""

    work: str
    seconds: float
    baseline: str
    baseline_seconds: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.baseline_seconds


def compared(
    work: str, ours: Callable[[], object], baseline: str, theirs: Callable[[], object]
) -> Figure:
    """The medians of work and baseline, timed in turn after one round that warms the caches."""
    times: tuple[list[float], list[float]] = ([], [])
    for round_number in range(ROUNDS + 1):
        for side, run in enumerate((ours, theirs)):
            started = perf_counter()
            run()
            if round_number:
                times[side].append(perf_counter() - started)
    return Figure(
        work=work,
        seconds=statistics.median(times[0]),
        baseline=baseline,
        baseline_seconds=statistics.median(times[1]),
    )


def table(figures: Iterable[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| work | seconds | baseline | seconds | ratio |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {one.work} | {one.seconds:.2f} | {one.baseline} | {one.baseline_seconds:.2f}"
        f" | {one.ratio:.2f} |"
        for one in figures
    ]
    return "\n".join(lines)


def machine() -> str:
    """The machine of the measurement: processor cores, system and Python."""
    return (
        f"{os.cpu_count()} processor cores, {platform.system()} {platform.machine()},"
        f" Python {platform.python_version()}"
    )
