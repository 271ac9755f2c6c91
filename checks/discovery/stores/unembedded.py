"""Says which values of LangGraph's store have no vector of a field, as that may be by design.

`put` with `index=False` or with paths of its own leaves no trace in the value's row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checks.database.catalog import Relation
    from checks.discovery.entries import Entry
    from checks.discovery.guesses import Guesser
    from checks.discovery.link import Link

LEAST_ALIKE = 3
"""Values of a namespace that have no vector before that is taken to be by design."""
MOST_LISTED = 5
"""Namespaces that a line leaves out by name."""


def tell_unembedded(
    parent: Guesser,
    entry: Entry,
    link: Link,
    constants: Mapping[str, str],
    *,
    held: Relation,
    text: str,
) -> None:
    """Add to an entry of one field how many values have the text and no vector.

    Where most have none, or none of a whole namespace, the entry is for a person to confirm, with
    a `where` that leaves such namespaces out. (A put whose embedding fails stores no value.)
    """
    own, here, there = map(_quoted, (link.parent.name, "prefix", link.columns[0]))
    store = f"{_quoted(held.schema)}.{_quoted(held.name)}"
    of_field = [f"vectors.{_quoted(n)} = {_literal(value)}" for n, value in constants.items()]
    same = [
        f"vectors.{_quoted(name)} = {own}.{_quoted(named)}"
        for name, named in zip(link.columns, link.parent_columns, strict=True)
    ]
    worded = f"({text})::text ~ '[^[:space:]]'"
    bare = f"CASE WHEN {worded} AND NOT {_any(store, [*same, *of_field])} THEN {own}.{here} END"
    with_text = parent.sampler.values(f"CASE WHEN {worded} THEN 1 END")
    without = parent.sampler.values(bare)
    if with_text is None or without is None or not without.present:
        return
    said = (
        f"{without.present:,} of {with_text.present:,} values that have this text have no vector of"
        " it; those put with index=False or another index=[...] are not to have one"
    )
    of_namespace = [f"vectors.{there} = {own}.{here}", *of_field]
    never = f"CASE WHEN {worded} AND NOT {_any(store, of_namespace)} THEN {own}.{here} END"
    namespaces = parent.sampler.frequent(never, most=MOST_LISTED + 1, least=LEAST_ALIKE)
    if not namespaces and 2 * without.present <= with_text.present:
        entry.remarks.append(f"{said}: leave them out with where")
        return
    entry.missing = entry.missing or f"{said}: remove each first #, but that of where if they are"
    if 0 < len(namespaces) <= MOST_LISTED:
        listed = ", ".join(map(_literal, namespaces))
        reason = "no value there has a vector of it; is that right?"
        entry.add("where", f"prefix NOT IN ({listed})", reason, stands=False)


def _any(store: str, conditions: list[str]) -> str:
    # A question about a sample, with names as the server quotes them.
    return f"EXISTS (SELECT FROM {store} AS vectors WHERE {' AND '.join(conditions)})"


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)


def _literal(value: str) -> str:
    return sql.Literal(value).as_string(None).strip()
