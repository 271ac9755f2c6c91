"""Words numbers, times and names for the report's page.

Decides nothing about what is shown; everything it returns is inert in HTML once escaped.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from checks.wording import dollars, number, plural, visible

if TYPE_CHECKING:
    from remediation.provider.usage import Usage
    from reports.values.tables import RowCount

NAME_LENGTH = 320
"""Characters of a name that are shown; the JSON report holds the whole name."""
LONG_NAME = 100
"""Characters from which a name is set small, or it would bury the figures beside it."""
TEXT_LENGTH = 4000
"""Characters of a message or a statement that are shown."""


def count(value: RowCount) -> str:
    return number(value.rows) if value.exact else f"at least {number(value.rows)}"


def share(part: int, whole: int) -> str:
    """A percentage that never rounds something to 0% nor a part to 100%."""
    if whole <= 0:
        return "none"
    if 0 < part * 1000 < whole:
        return "under 0.1%"
    if part < whole and part * 1000 > whole * 999:
        return "over 99.9%"
    percent = f"{100 * part / whole:.1f}".removesuffix(".0")
    return f"{percent}%"


def cost(value: float | None) -> str:
    """The dollars of what has a price."""
    return "price not known" if value is None else dollars(value)


def tokens_taken(usage: Usage) -> str:
    """The tokens of requests, called billed only where every answer said how many it took."""
    told = plural(usage.tokens, "token")
    if usage.tokens_are_known:
        return f"{told} billed"
    if not usage.tokens:
        counted = plural(usage.unsaid, "token")
        return f"{counted} by our own count, as no answer said credibly how many were billed"
    return (
        f"at least {told} billed, and {number(usage.unsaid)} more by our own count, as some answers"
        " did not say, or said more than can be"
    )


def duration(seconds: float) -> str:
    """Two units at most: 4.2 s, 3 min 12 s, 2 h 5 min, 3 d 4 h."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    for unit, size, smaller, smaller_size in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def moment(time: datetime) -> str:
    """The time to the second, marked UTC; a stored time without a zone stays as it is."""
    if time.tzinfo is None:
        return f"{time:%Y-%m-%d %H:%M:%S} (no zone stored)"
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def machine_time(time: datetime) -> str:
    """The time for a machine, to the millisecond at most, as HTML asks for."""
    return time.isoformat(timespec="seconds")


def first_upper(text: str) -> str:
    """The text as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def span(first: datetime | None, last: datetime | None) -> str:
    """From the first time to the last, the date once where it is the same."""
    known = [time for time in (first, last) if time is not None]
    if not known:
        return "not known"
    first, last = known[0], known[-1]
    if first == last:
        return moment(first)
    start, end = moment(first), moment(last)
    if first.tzinfo is None or last.tzinfo is None:
        return f"{start} to {end}"
    start, end = start.removesuffix(" UTC"), end if start[:10] != end[:10] else end[11:]
    return f"{start} to {end}"


def shortened(text: str, length: int = TEXT_LENGTH) -> str:
    """The text, or its start and how much is left out."""
    if len(text) <= length:
        return text
    return f"{text[:length]}… ({number(len(text) - length)} more characters)"


def name(text: str, length: int = NAME_LENGTH) -> Markup:
    """A name from outside on one logical line, isolated from the writing direction around it."""
    if not text:
        return Markup('<em class="special">(empty)</em>')
    inner = text.strip(" ")
    before = "␣" * (len(text) - len(text.lstrip(" ")))
    after = "␣" * (len(text) - len(before) - len(inner))
    shown = shortened(before + visible(inner, keep="") + after, length)
    # An identifier breaks after its dots and underscores before it breaks inside a word.
    breakable = escape(shown).replace("_", Markup("_<wbr>")).replace(".", Markup(".<wbr>"))
    long = Markup(' class="long"') if len(shown) > LONG_NAME else ""
    return Markup("<bdi{}>{}</bdi>").format(long, breakable)


def tenant(value: str | None, length: int = NAME_LENGTH) -> Markup:
    """A tenant's name; the NULL tenant has words of its own."""
    if value is None:
        return Markup('<em class="special">(no tenant)</em>')
    return name(value, length)
