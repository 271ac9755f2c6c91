"""Words numbers with their nouns, and makes foreign text harmless, for people to read."""

from __future__ import annotations

import unicodedata


def number(value: int) -> str:
    """The number with thousands separators."""
    return f"{value:,}"


def plural(value: int, one: str, many: str | None = None) -> str:
    """The number with its noun: 1 row, 2 rows."""
    return f"{number(value)} {one if value == 1 else many or one + 's'}"


def dollars(amount: float) -> str:
    """The amount to the cent; below one, with up to five decimals, as many as show it."""
    if amount == 0 or amount >= 0.01:
        return f"${amount:,.2f}"
    return f"${amount:.5f}".rstrip("0") if amount >= 0.00001 else "under $0.00001"


def visible(text: str, *, keep: str = "\n\t") -> str:
    """The text with control, bidi and zero-width characters shown instead of obeyed."""
    shown = []
    for character in text:
        category = unicodedata.category(character)
        if character in keep or character == " ":
            shown.append(character)
        elif character == "\n":
            shown.append("↵")
        elif category in {"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"}:
            shown.append(f"⟨U+{ord(character):04X}⟩")
        else:
            shown.append(character)
    return "".join(shown)
