"""Prepares what is sent for a row: its text, perhaps cut, or why nothing can be sent.

The dry run and the repair share it, so that their numbers agree. Asks no database or provider.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from remediation.provider.bisection import Cut
from remediation.provider.errors import unsendable
from remediation.provider.tokens import TiktokenTokens, characters_within
from remediation.selection.batching import FailingRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checks.settings.integrity_toml import Provider
    from remediation.provider.tokens import TokenCounter

NO_TEXT = "it has no text to embed (NULL or blank)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A row as it will be sent, or why it never will be; `note` says what was done to its text."""

    row: FailingRow
    refused: str | None = None
    note: str = ""


def prepare(row: FailingRow, provider: Provider, counter: TokenCounter) -> Prepared:
    """Prepare one row. Only an exact count refuses or cuts a text; an estimate never does.

    With an estimate the provider says what is too long; see `shorter_forms`.
    """
    if not row.text:
        return Prepared(row=row, refused=NO_TEXT)
    refused = unsendable(row.text)
    if refused is not None:
        return Prepared(row=row, refused=refused.reason)
    limit = provider.max_tokens_per_input
    if not counter.exact or counter.count(row.text) <= limit:
        return Prepared(row=row)
    if provider.too_long == "truncate" and isinstance(counter, TiktokenTokens):
        shorter = counter.truncate(row.text, limit)
        return Prepared(row=replace(row, text=shorter), note=f"text cut to {limit:,} tokens")
    return Prepared(
        row=row, refused=f"its text has {counter.count(row.text):,} tokens, more than {limit:,}"
    )


def shorter_forms(text: str, provider: Provider, counter: TokenCounter) -> Iterator[Cut]:
    """What to send in place of a text that was refused alone, the longest first.

    Yields nothing where the settings do not allow it, where tokens are counted exactly (the text
    was cut before), or where the text is surely short enough: a byte-level BPE token has at least
    a byte. So the last form, of as many bytes as tokens are allowed, is never too long.
    """
    limit = provider.max_tokens_per_input
    size = len(text.encode())
    if provider.too_long != "truncate" or counter.exact or size <= limit:
        return
    estimated = _at_white_space(text, characters_within(text, limit))
    if estimated.strip() and len(estimated) < len(text):
        yield Cut(text=estimated, note=f"text cut to about {limit:,} tokens, by estimate")
    within = _at_white_space(text, len(text.encode()[:limit].decode(errors="ignore")))
    if within.strip() and within != estimated:
        yield Cut(text=within, note=f"text cut to {len(within.encode()):,} bytes")


def shortest_form(text: str, provider: Provider, counter: TokenCounter) -> str:
    """The last form of a text that is sent before it is given up."""
    *_, last = (text, *(cut.text for cut in shorter_forms(text, provider, counter)))
    return last


def _at_white_space(text: str, end: int) -> str:
    """The text up to `end`, or up to white space before it where that leaves at least half."""
    if end >= len(text) or text[end].isspace():
        return text[:end].rstrip()
    for position in range(end, end // 2, -1):
        if text[position - 1].isspace():
            return text[:position].rstrip()
    return text[:end]


def sendable(text: str, provider: Provider, counter: TokenCounter) -> str | None:
    """What a repair would send for a text, or None where it would send nothing."""
    row = FailingRow(key=(), tenant=None, text=text, text_hash="", vector_hash=None, checks=())
    prepared = prepare(row, provider, counter)
    return prepared.row.text if prepared.refused is None else None
