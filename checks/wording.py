"""Numbers with their nouns, for whatever a person reads."""

from __future__ import annotations


def number(value: int) -> str:
    """The number with thousands separators."""
    return f"{value:,}"


def plural(value: int, one: str, many: str | None = None) -> str:
    """The number with its noun: 1 row, 2 rows."""
    return f"{number(value)} {one if value == 1 else many or one + 's'}"
