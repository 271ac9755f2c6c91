"""Chooses the healthy rows whose vectors tell another text from the declared one.

A separator shows in a short text that has all its parts, a cut in a long one, and spaces for line
breaks only in one that has any. Works on what was read of rows; reads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from remediation.selection.batching import Key


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A healthy row by what its text has: its parts, then what applications change in a text."""

    key: Key
    traits: tuple[int, ...]
    length: int


def telling(candidates: Sequence[Candidate], rows: int) -> list[Candidate]:
    """So many of them, in rounds; of the first up to `2 * rows - 1`, where each tells more."""
    rounds = _rounds(candidates)
    chosen = next(rounds, [])[: 2 * rows - 1]
    while len(chosen) < rows and (further := next(rounds, [])):
        chosen += further[: rows - len(chosen)]
    return chosen


def _rounds(candidates: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    """The shortest of those with most, the longest, and then whichever has or lacks most that no
    other of them does; the same of what is left."""
    left = list(candidates)
    while left:
        chosen = [max(left, key=lambda c: (c.traits, -c.length))]
        left.remove(chosen[0])
        if left:
            chosen.append(max(left, key=lambda c: c.length))
            left.remove(chosen[1])
        seen = {trait for one in chosen for trait in enumerate(one.traits)}
        while left:
            news = {c.key: len({*enumerate(c.traits)} - seen) for c in left}
            best = max(left, key=lambda c: (news[c.key], c.traits, -c.length))
            if not news[best.key]:
                break
            chosen.append(best)
            left.remove(best)
            seen.update(enumerate(best.traits))
        yield chosen
