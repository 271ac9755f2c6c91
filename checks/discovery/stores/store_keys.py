"""Tells what else than its owner's key stands in a store's unique key: model, field, pieces."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from checks.discovery.names import MODELS, TEXT_TYPES, named, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checks.database.catalog import Column
    from checks.discovery.guesses import Guesser
    from checks.discovery.link import Link

MOST_FIELDS = 20
"""Different values of such columns, beyond which they number the pieces of a text; as many entries
of one store are held against each other."""

_OF_PIECES = re.compile(r"(chunk|piece|part|seq|pos|ind|idx|num|no$|page|ord|version|offset)")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreKey:
    """What the rows of a store have in its unique key beside the key of their owner."""

    model: Column | None
    fields: tuple[Mapping[str, str], ...]
    """For each thing whose embeddings it holds, the values that tell its rows; one is empty where
    the owner's key is unique, or where rows hold pieces.
    """
    further: tuple[str, ...] = ()
    """The columns of the key whose values are too many, or number pieces."""


def store_key(own: Guesser, link: Link) -> StoreKey:
    """The key of a store as the catalog has it, with the values that sampled rows have."""
    columns = own.relation.columns
    known = {*link.columns, *link.constants}
    lacking = [
        [name for name in unique if name not in known]
        for unique in own.relation.unique_keys
        if set(link.columns) <= set(unique)
    ]
    further = min(lacking, key=len, default=[])
    models = named([columns[name] for name in further], MODELS, types=TEXT_TYPES)
    rest = [columns[name] for name in further if columns[name] not in models[:1]]
    fields: tuple[Mapping[str, str], ...] = (link.constants,)
    if rest and not any(_OF_PIECES.search(plain(column.name)) for column in rest):
        found = own.sampler.of(link.constants).combinations(rest, most=MOST_FIELDS)
        if found:
            names = [column.name for column in rest]
            fields = tuple(
                {**link.constants, **dict(zip(names, values, strict=True))} for values in found
            )
    left = tuple(column.name for column in rest if fields == (link.constants,))
    return StoreKey(model=models[0] if models else None, fields=fields, further=left)
