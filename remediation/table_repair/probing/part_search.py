"""Searches what an application joins with a text: other columns, and keys of the row's JSON.

The stored vectors guide it: each step takes the change that brings the texts nearest to them.
Bounded; whether the end is right is for a second look to say.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from psycopg import sql

from checks.canary.sampler import cosine
from checks.discovery.layouts.known import PYTHON_STR
from checks.discovery.names import JSON_TYPES, TEXT_TYPES, words_of
from checks.row_checks.text_parts import TITLES
from checks.settings.names import display_identifier
from remediation.selection.preparation import sendable
from remediation.table_repair.probing.probe import FAR
from remediation.table_repair.probing.text_variants import (
    PREFIXES,
    SEPARATORS,
    TWO_COLUMNS,
    BetterText,
    TextVariant,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from remediation.selection.healthy_rows import HealthyRow
    from remediation.table_repair.probing.second_look import SecondLook

Values: TypeAlias = "dict[str, str | None]"

SEARCHED = 200
"""Healthy rows that are looked into for what they have beside their text."""
COMPARED = 4
"""Rows that each step is tried on."""
CONFIRMED = 40
"""Rows that its end is tried on; those that disagree are compared in further steps."""
MOST_PARTS = 24
ARRAY_TYPES = ("text[]", "character varying[]")
JOINS = ("', '", "' '", r"E'\n'")
"""What the words of an array are joined with."""
LONGEST_PART = 500
"""Characters of a JSON's value that stands beside a text; a longer one is a text of its own."""
MOST_TEXTS = 1_500
"""Texts that are sent, at most, for one tenant of a table."""

_OF_ARRAY = re.compile(r"array_to_string\(([^,]+), ")

_UNQUOTED = {
    written: written.removeprefix("E")[1:-1]
    .replace(r"\r", "\r")
    .replace(r"\n", "\n")
    .replace(r"\t", "\t")
    for written in SEPARATORS
}


class Part(NamedTuple):
    """A value of the row, as SQL, and the words before it and behind it."""

    value: str
    label: str = ""
    unit: str = ""

    @property
    def written(self) -> str:
        if not self.label and not self.unit:
            return self.value
        plain = re.fullmatch(r'\w+|"[^"]+"', self.value)
        value = self.value if plain else f"({self.value})"
        front = f"'{self.label}' || " if self.label else ""
        return front + value + (f" || '{self.unit}'" if self.unit else "")

    def of(self, values: Values) -> str | None:
        value = values[self.value]
        return None if value is None else self.label + value + self.unit

    def labelled(self) -> Iterator[Part]:
        """The same behind its own name (`Question: `), before it (` pages`), and without."""
        key = re.search(r"->>? '([^']+)'", self.value) or _OF_ARRAY.match(self.value)
        name = " ".join(words_of(key[1] if key else self.value))
        for label in ("", f"{name}: ", f"{name.capitalize()}: "):
            yield self._replace(label=label, unit="")
        yield self._replace(label="", unit=f" {name}")


class Joined(NamedTuple):
    """Parts in the order in which they are joined; one that is NULL is left out."""

    parts: tuple[Part, ...]
    separators: tuple[str, ...] = ()
    """What stands before each part but the first, as SQL."""
    prefix: str = ""

    @property
    def expression(self) -> str:
        """As it is written in the settings."""
        whole = self.parts[0].written
        for separator, run in self._runs:
            whole = f"concat_ws({separator}, {', '.join([whole, *(p.written for p in run)])})"
        return f"'{self.prefix}' || ({whole})" if self.prefix else whole

    def of(self, values: Values) -> str:
        """The same of one row, by the values of its parts."""
        whole = self.parts[0].of(values)
        for separator, run in self._runs:
            texts = (whole, *(part.of(values) for part in run))
            whole = _UNQUOTED[separator].join(text for text in texts if text is not None)
        return self.prefix + (whole or "")

    @property
    def _runs(self) -> Iterator[tuple[str, list[Part]]]:
        """The parts behind the first, those of one separator together."""
        behind = zip(self.separators, self.parts[1:], strict=True)
        for separator, run in groupby(behind, itemgetter(0)):
            yield separator, [part for _, part in run]

    def changed(self, others: Sequence[str], own: Sequence[str]) -> Iterator[Joined]:
        """All that one change makes of it; the last of `own` is never left out."""
        parts, separators = self.parts, self.separators
        near = separators[:1] or SEPARATORS[:1]
        there = {part.value for part in parts}
        for new in (Part(other) for other in (*others, *own) if other not in there):
            # Behind the last it comes by moving: two steps for what is rare.
            for i in range(len(parts)):
                more = (*separators[:i], *(separators[i - 1 : i] or near), *separators[i:])
                yield self._replace(parts=(*parts[:i], new, *parts[i:]), separators=more)
            for i, old in enumerate(parts):
                if old.value not in own:
                    yield self._replace(parts=(*parts[:i], new, *parts[i + 1 :]))
        for i, old in enumerate(parts):
            rest = (*parts[:i], *parts[i + 1 :])
            if old.value != own[-1]:
                less = (*separators[: max(i - 1, 0)], *separators[max(i, 1) :])
                yield self._replace(parts=rest, separators=less)
            for j in range(i):
                yield self._replace(parts=(*rest[:j], old, *rest[j:]))
            for other in old.labelled():
                yield self._replace(parts=(*parts[:i], other, *parts[i + 1 :]))
        for separator in SEPARATORS if separators else ():
            yield self._replace(separators=(separator,) * len(separators))
            for i in range(len(separators)) if len(separators) > 1 else ():
                one = (*separators[:i], separator, *separators[i + 1 :])
                yield self._replace(separators=one)
        for prefix in ("", *PREFIXES):
            yield self._replace(prefix=prefix)


@dataclass(kw_only=True)
class PartSearch:
    """Of one tenant of one table. Create, then ask `best` once."""

    look: SecondLook
    tenant: str | None
    least: float
    """The cosine from which on a row agrees."""
    _vectors: dict[str, NDArray[np.float32] | None] = field(default_factory=dict, init=False)

    def best(self) -> BetterText | None:
        """The parts that agree best with what is stored; None where none is better."""
        rows = self.look.healthy(self.tenant, SEARCHED)
        own, start = _declared(self.look.reader.target.declared.text)
        values, others = self._values(rows, own)
        if len(rows) < COMPARED or not others:
            return None
        order = _covering(values, others, own[-1])
        confirmed = [(rows[i], values[i]) for i in order[:CONFIRMED]]
        compared, best = confirmed[:COMPARED], start
        while True:
            best = self._climbed(best, compared, others, own)
            nears = self._nears(best, confirmed)
            far = [each for each, near in zip(confirmed, nears, strict=True) if near < self.least]
            new = [each for each in far if each not in compared][:COMPARED]
            if not new or len(self._vectors) >= MOST_TEXTS:
                break
            compared = [*compared, *new]
        if best == start:
            return None
        # One row alone that is far off by every text is of another one.
        told = sorted(nears)[sum(near < FAR for near in nears) == 1 :]
        variant = TextVariant(words="parts of the row together", expression=best.expression)
        return BetterText(variant=variant, low=told[0], high=told[-1])

    def _climbed(
        self,
        best: Joined,
        compared: Sequence[tuple[HealthyRow, Values]],
        others: Sequence[str],
        own: Sequence[str],
    ) -> Joined:
        """Changed as long as a change brings the texts nearer."""
        nears = self._nears(best, compared)
        while min(nears) < self.least and len(self._vectors) < MOST_TEXTS:
            tried = list(best.changed(others, own))
            self._ask([one.of(values) for one in tried for _, values in compared])
            better = max(tried, key=lambda one: fmean(self._nears(one, compared)))
            if fmean(self._nears(better, compared)) <= fmean(nears):
                break
            best, nears = better, self._nears(better, compared)
        return best

    def _nears(self, one: Joined, rows: Sequence[tuple[HealthyRow, Values]]) -> list[float]:
        texts = [one.of(values) for _, values in rows]
        self._ask(texts)
        vectors = [self._vectors.get(text) for text in texts]
        return [
            0.0 if fresh is None else cosine(row.vector, fresh)
            for (row, _), fresh in zip(rows, vectors, strict=True)
        ]

    def _ask(self, texts: Sequence[str]) -> None:
        """Have the vectors of texts, as many as may still be sent."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        new = new[: MOST_TEXTS - len(self._vectors)]
        sent = {text: sendable(text, self.look.provider, self.look.counter) for text in new}
        asked = [text for text in sent.values() if text]
        answers = dict(zip(asked, self.look.embed(self.tenant, asked), strict=True))
        self._vectors |= {text: answers.get(one or "") for text, one in sent.items()}

    def _values(
        self, rows: Sequence[HealthyRow], own: Sequence[str]
    ) -> tuple[list[Values], list[str]]:
        """What each part is in each row, and which may stand beside the text, likely ones first."""
        columns = self.look.reader.target.facts.columns.values()
        key = self.look.reader.target.key
        free = [column for column in columns if column.readable and column not in key]
        names = [display_identifier(column.name) for column in free if column.type in TEXT_TYPES]
        texts = [
            name
            for name in names
            if not any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", part) for part in own)
        ]
        values: list[Values] = [{} for _ in rows]
        for expression in dict.fromkeys([*own, *texts]):
            for of_row, value in zip(values, self._read(rows, expression), strict=True):
                of_row[expression] = value
        for column in (column for column in free if column.type in ARRAY_TYPES):
            for separator in JOINS:
                part = f"array_to_string({display_identifier(column.name)}, {separator})"
                for of_row, value in zip(values, self._read(rows, part), strict=True):
                    of_row[part] = value
        for column in (column for column in free if column.type in JSON_TYPES):
            name = display_identifier(column.name)
            for of_row, document in zip(values, self._read(rows, f"{name}::text"), strict=True):
                of_row |= _keys_of(name, document)
        found = {part for of_row in values for part in of_row}
        values = [{part: of_row.get(part) for part in found} for of_row in values]
        others = [
            part
            for part in found - {*own}
            if _stands_beside([of_row[part] for of_row in values], column=part in texts)
        ]
        # Three ways to join an array crowd nothing out.
        others.sort(
            key=lambda part: (
                not part.strip("\"'").endswith(TITLES),
                _OF_ARRAY.match(part) is not None,
                part,
            )
        )
        return values, others[:MOST_PARTS]

    def _read(self, rows: Sequence[HealthyRow], expression: str) -> list[str | None]:
        keys = [row.key for row in rows]
        return self.look.reader.texts_as(self.look.connection, keys, expression)


def _declared(text: str) -> tuple[list[str], Joined]:
    """The parts of the declared text, its last the text itself, and how they are joined."""
    two = TWO_COLUMNS.fullmatch(text)
    if two is None or two[1] not in SEPARATORS:
        return [text], Joined((Part(text),))
    return [two[2], two[3]], Joined((Part(two[2]), Part(two[3])), (two[1],))


def _keys_of(column: str, document: str | None) -> Iterator[tuple[str, str]]:
    """The keys of a JSON object as SQL, with their values as Python writes them."""
    found = json.loads(document or "{}")
    for key, value in found.items() if isinstance(found, dict) else ():
        name = sql.Literal(key).as_string(None).strip()
        if isinstance(value, bool):
            yield f"initcap({column} ->> {name})", str(value)
        elif isinstance(value, str | int | float):
            yield f"{column} ->> {name}", str(value)
        elif isinstance(value, list):
            yield as_python(f"{column} -> {name}"), str(value)


def as_python(value: str) -> str:
    """SQL of a JSON value as Python's str() writes it, NULL where it is null."""
    # A piece of the settings, which a person reads before it is run.
    return (
        f"(SELECT {PYTHON_STR} FROM (SELECT ({value})::json AS value) AS of_key"  # noqa: S608
        " WHERE json_typeof(value) <> 'null')"
    )


def _stands_beside(values: Sequence[str | None], *, column: bool) -> bool:
    """Whether any row has it, and none a long one, but for a column: as a question's answer."""
    there = [value for value in values if value]
    return bool(there) and (column or max(map(len, there)) <= LONGEST_PART)


def _covering(values: Sequence[Values], parts: Sequence[str], own: str) -> list[int]:
    """The positions of the rows: first such that have all parts between them, then short ones."""
    left = sorted(range(len(values)), key=lambda i: len(values[i][own] or ""))
    order, lacking = [], set(parts)
    while left:
        gains = [sum(values[i][part] is not None for part in lacking) for i in left]
        if not any(gains):
            break
        chosen = left.pop(gains.index(max(gains)))
        order.append(chosen)
        lacking -= {part for part in lacking if values[chosen][part] is not None}
    return order + left
