"""Proposes other text expressions that an application commonly embeds in place of the declared one.

Writes SQL expressions only; whether one is right is for the stored vectors to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from checks.discovery.layouts.known import with_datetimes
from checks.discovery.names import JSON_TYPES, TEXT_TYPES
from checks.row_checks.text_parts import TITLES
from checks.settings.names import display_identifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checks.targets.target import Target

SEPARATORS = (
    *(r"E'\n'", r"E'\n\n'", "' '", "'. '", "': '", "', '", "' - '", "' | '", "''"),
    *("'; '", r"E'\t'", "' — '", r"E'\r\n'"),
)
"""What stands between the parts of a text, as applications join them."""

PREFIXES = ("passage: ", "search_document: ", "title: none | text: ")
"""What E5, Nomic's models and EmbeddingGemma ask for in front of a text that is to be found."""

LENGTHS = (500, 512, 1_000, 1_024, 2_000, 2_048, 4_000, 8_000, 8_191)
"""Characters at which applications cut a text."""

_QUOTE = "''" * 2
ENTITIES = {"&lt;": "'<'", "&gt;": "'>'", "&quot;": "'\"'", "&nbsp;": r"E'\u00a0'"}
ENTITIES |= {"&#39;": _QUOTE, "&#x27;": _QUOTE, "&apos;": _QUOTE, "&amp;": "'&'"}
"""What HTML writes for a character; `&amp;` last, as `&amp;lt;` means `&lt;`."""

TITLE_SEPARATORS = SEPARATORS[:5]

_JOINED = re.compile(r"(\bconcat_ws\s*\(\s*)(E?'(?:[^']|'')*')(?=\s*,)", re.IGNORECASE)


_WRAPPED = re.compile(
    r"(replace|lower|btrim|left)\s*\((.*?)(?:,\s*E?'[^']*'){0,2}(?:,\s*\d+)?\s*\)",
    re.IGNORECASE | re.DOTALL,
)
"""A function of the whole text; where it is one of a part, what is left is no SQL or no better."""

MOST_COLUMNS = 4
"""Other text columns that are tried alone."""

TWO_COLUMNS = re.compile(r"concat_ws\(([^,]+), (\w+|\"[^\"]+\"), (\w+|\"[^\"]+\")\)")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextVariant:
    """Another expression, and in what it differs, in words."""

    words: str
    expression: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BetterText:
    """A variant that agrees decidedly better, and its cosines with the stored vectors."""

    variant: TextVariant
    low: float
    high: float


def text_variants(target: Target) -> Iterator[TextVariant]:
    """The common variants of a target's text expression, those nearest to it first."""
    own = target.declared.text
    joined = _JOINED.search(own)
    if joined is not None:
        for separator in SEPARATORS:
            other = own[: joined.start(2)] + separator + own[joined.end(2) :]
            if other != own:
                yield TextVariant(words=f"separator {separator}", expression=other)
    if (told := with_datetimes(own)) != own:
        yield TextVariant(words="times of the metadata as Python's datetimes", expression=told)
    two = TWO_COLUMNS.fullmatch(own)
    if two is not None:
        separator, first, second = two.groups()
        swapped = f"concat_ws({separator}, {second}, {first})"
        yield TextVariant(words=f"{second} in front", expression=swapped)
        for none in ("''", "'None'"):
            filled = f"concat_ws({separator}, coalesce({first}, {none}), {second})"
            yield TextVariant(words=f"{none} for no {first}", expression=filled)
        yield from _labelled(first, second)
    bare = _WRAPPED.fullmatch(own.strip())
    if bare is not None:
        yield TextVariant(words=f"without the outer {bare[1].lower()}", expression=bare[2].strip())
    yield TextVariant(words="newlines to spaces", expression=rf"replace({own}, E'\n', ' ')")
    yield TextVariant(
        words="white space squeezed",
        expression=rf"btrim(regexp_replace({own}, '\s+', ' ', 'g'))",
    )
    yield TextVariant(words="stripped", expression=rf"btrim({own}, E' \t\r\n')")
    yield TextVariant(words="a newline at the end", expression=rf"({own}) || E'\n'")
    yield TextVariant(words="lower-cased", expression=f"lower({own})")
    yield TextVariant(
        words="line breaks without returns", expression=rf"replace({own}, E'\r\n', E'\n')"
    )
    yield from _unmarked(own)
    for prefix in PREFIXES:
        words, expression = f"{prefix!r} in front", f"'{prefix}' || ({own})"
        yield TextVariant(words=words, expression=expression)
    yield from _titled(target, own)
    yield from _alone(target, own)
    for length in LENGTHS:
        yield TextVariant(words=f"cut to {length:,}", expression=f"left({own}, {length})")


def _unmarked(own: str) -> Iterator[TextVariant]:
    """Without HTML's tags or Markdown's marks; a text that has none is as it was, and not sent."""
    yield TextVariant(words="HTML's entities decoded", expression=_decoded(own))
    # Spaces first: where both agree, a row of two paragraphs may yet tell them apart.
    for space, words in ((" ", "HTML's tags to spaces"), ("", "without HTML's tags")):
        bare = f"regexp_replace({own}, '<[^>]+>', '{space}', 'g')"
        for tried, how in ((bare, words), (_decoded(bare), f"{words}, entities decoded")):
            yield TextVariant(words=how, expression=tried)
            squeezed = rf"btrim(regexp_replace({tried}, '\s+', ' ', 'g'))"
            yield TextVariant(words=f"{how}, white space squeezed", expression=squeezed)
    linked = rf"regexp_replace({own}, '!?\[([^]]*)\]\([^)]*\)', '\1', 'g')"
    marks = r"(^|\n)(?:#{1,6}|>) +|\*\*|__|`"
    unmarked = rf"regexp_replace({linked}, '{marks}', '\1', 'g')"
    yield TextVariant(words="Markdown's links as their words", expression=linked)
    yield TextVariant(words="without Markdown's marks", expression=unmarked)


def _decoded(text: str) -> str:
    for entity, meant in ENTITIES.items():
        text = f"replace({text}, '{entity}', {meant})"
    return text


def _labelled(first: str, second: str) -> Iterator[TextVariant]:
    """Two columns with their names before them, or the first as a heading."""
    names = [name.strip('"').replace("_", " ").replace("'", "") for name in (first, second)]
    for one, other in (names, [name.capitalize() for name in names]):
        for separator in SEPARATORS[:2]:
            yield TextVariant(
                words=f"labels '{one}: ' and '{other}: ', separator {separator}",
                expression=f"concat_ws({separator}, '{one}: ' || {first}, '{other}: ' || {second})",
            )
    yield TextVariant(
        words="'# ' in front", expression=rf"concat_ws(E'\n\n', '# ' || {first}, {second})"
    )
    yield TextVariant(
        words="labels of EmbeddingGemma",
        expression=f"'title: ' || coalesce({first}, 'none') || ' | text: ' || {second}",
    )


def _titled(target: Target, own: str) -> Iterator[TextVariant]:
    """With a title of the row in front, a column or a key of its JSON, that `own` does not hold."""
    columns = target.facts.columns
    titles = {name: display_identifier(name) for name in TITLES if name in columns}
    documents = [
        display_identifier(n) for n, column in columns.items() if column.type in JSON_TYPES
    ]
    # A key that no row has changes no text, and is not tried.
    titles |= {
        f"{name} of {document}": f"{document} ->> '{name}'"
        for document in documents
        for name in TITLES
    }
    for words, title in titles.items():
        if re.search(rf"(?<!\w){re.escape(title)}(?!\w)", own, re.IGNORECASE):
            continue
        for separator in TITLE_SEPARATORS:
            yield TextVariant(
                words=f"{words} in front, separator {separator}",
                expression=f"concat_ws({separator}, {title}, {own})",
            )


def _alone(target: Target, own: str) -> Iterator[TextVariant]:
    """Other columns of text, those of the expression first, as of a title that was not embedded."""
    columns = [
        display_identifier(name)
        for name, column in target.facts.columns.items()
        if column.readable and column.type in TEXT_TYPES and column not in target.key
    ]
    columns.sort(key=lambda name: name not in own)
    for column in [name for name in columns if name != own][:MOST_COLUMNS]:
        yield TextVariant(words=f"{column} alone", expression=column)
