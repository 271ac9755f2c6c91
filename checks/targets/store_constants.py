"""Finds the columns of a store's unique key that one entry's rows have the same value in.

Judges settings and catalog facts; asks the database nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from checks.settings.names import display_identifier

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from checks.database.catalog import Relation
    from checks.settings.tables import Store, Table

_LITERAL = re.compile(
    r"\s*(?:'(?:[^']|'')*'|[+-]?\d+|true|false)(?:\s*::\s*[\w. ]+)?\s*", re.IGNORECASE
)
"""A value that is the same for every row, as people write it."""


def constants_of(declared: Table, store: Store, relation: Relation, model: str) -> dict[str, str]:
    """SQL of the values that an entry's rows of a store have, by column.

    Beside those declared, where these and the key make no unique key yet: the model in
    `model_column`, and, where `where` says which rows are meant, what `insert` writes.
    """
    constants = dict(store.constants)
    more: dict[str, str] = {}
    if store.model_column is not None and not declared.tenant_models:
        more[store.model_column] = literal(model)
    if store.where is not None:
        more |= {name: value for name, value in store.insert.items() if _LITERAL.fullmatch(value)}
    completing = _completing(relation, {*store.key, *constants}, more)
    return constants | {name: more[name] for name in completing}


def unmatched_insert(store: Store, relation: Relation, constants: Collection[str]) -> str | None:
    """What is wrong with an `insert` that completes a unique key without `constants`, or None."""
    completing = _completing(relation, {*store.key, *constants}, store.insert)
    if not completing:
        return None
    names = ", ".join(map(display_identifier, completing))
    values = ", ".join(
        f'{display_identifier(name)} = "{store.insert[name]}"' for name in completing
    )
    return (
        f"{names} completes a unique key, so that rows with another value in it are embeddings of"
        " something else, which would be counted here; move it to"
        f" constants = {{ {values} }}, or, where it differs from row to row, add it to both keys"
    )


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _completing(
    relation: Relation, columns: Collection[str], more: Mapping[str, str]
) -> tuple[str, ...]:
    """The fewest columns of `more` that make a unique key with `columns`; () where none do, or
    where these need none.
    """
    lacking = [
        tuple(name for name in unique if name not in columns)
        for unique in relation.unique_keys
        if unique and {*unique} <= {*columns, *more}
    ]
    return min(lacking, key=len, default=())
