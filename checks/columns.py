"""Lays a table out in columns for a terminal. Plain text; knows nothing of what it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unicodedata import combining, east_asian_width

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

GAP = "  "


def in_columns(
    rows: Sequence[Sequence[str]],
    *,
    width: int,
    right: Collection[int] = (),
    cut: Sequence[int] = (),
    narrowest: int = 8,
) -> list[str]:
    """A line for each row, in columns as wide as their widest cell.

    Columns in `right` are flush right. Where a line would be wider than `width`, the cells of the
    columns in `cut` are shortened, the widest of them first, to no less than `narrowest`: at their
    end, or in the middle where that leaves more of them different.
    """
    if not rows:
        return []
    widths = [max(map(wide, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + len(GAP) * (len(widths) - 1) > width:
        most = max(cut, key=lambda column: widths[column], default=None)
        if most is None or widths[most] <= narrowest:
            break
        widths[most] -= 1
    columns = [_cut(cells, widths[n]) for n, cells in enumerate(zip(*rows, strict=True))]
    return [
        GAP.join(_padded(cell, widths[n], right=n in right) for n, cell in enumerate(row)).rstrip()
        for row in zip(*columns, strict=True)
    ]


def wide(text: str) -> int:
    """The columns that a text takes."""
    return sum(
        0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in text
    )


def _cut(cells: Sequence[str], width: int) -> list[str]:
    ended = [_fitted(cell, "", width) for cell in cells]
    parted = [_fitted(cell, cell[-(width // 2) :], width) for cell in cells]
    return parted if len(set(parted)) > len(set(ended)) else ended


def _fitted(text: str, end: str, width: int) -> str:
    """A text that is too wide, with `…` before its end in place of what is too much."""
    if wide(text) <= width:
        return text
    start = text.removesuffix(end)
    while wide(start) + wide(end) >= width:
        start, end = (start[:-1], end) if start else ("", end[1:])
    return f"{start}…{end}"


def _padded(text: str, width: int, *, right: bool) -> str:
    blank = " " * (width - wide(text))
    return blank + text if right else text + blank
