"""Finds what the rows of a table without a text of its own may be embeddings of.

A foreign key says so; without one, names do, and sampled rows bear it out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from checks.database.catalog import read_relations
from checks.discovery.link import Link
from checks.discovery.names import TENANTS, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checks.database.catalog import Relation
    from checks.discovery.guesses import Guesser
    from checks.discovery.layouts.candidates import ForeignKey

MOST_OWNERS = 20
"""Values of a column that names the owner's type, beyond which it names something else."""

CONTENT_TYPES, OBJECT_ID = "django_content_type", "object_id"
"""The table and the column of Django's generic foreign keys."""

_OF_STORES = re.compile(r"_?(embeddings?(_store)?|vectors?|vec|store)$", re.IGNORECASE)
"""How the name of a store ends, after that of its table."""


def links_of(own: Guesser) -> Iterator[Link]:
    """Foreign keys; where there is none, columns for the owner's type and id, then bare names."""
    example = own.group.example
    # Whose a row is is no text of it, where there is another parent.
    keys = sorted(
        example.foreign_keys, key=lambda key: any(plain(name) in TENANTS for name in key.columns)
    )
    for key in keys:
        if key.parent.name == CONTENT_TYPES and OBJECT_ID in own.relation.columns:
            yield from _of_content_types(own, key)
        elif set(key.parent_columns) <= key.parent.columns.keys():
            yield Link(
                parent=key.parent,
                columns=key.columns,
                parent_columns=key.parent_columns,
                reason="its foreign key",
            )
    if example.foreign_keys or own.group.tenant_from == "table":
        return
    yield from _of_typed_owners(own)
    yield from _of_names(own)


def _of_content_types(own: Guesser, key: ForeignKey) -> Iterator[Link]:
    """Django's generic foreign key: the type by its number, which has application and model."""
    (name,) = key.columns
    called = own.sampler.content_types(key.parent)
    found = own.sampler.combinations([own.relation.columns[name]], most=MOST_OWNERS)
    for (value,) in found or ():
        parent = _table_called(own, called.get(value, ""))
        if parent is None or len(parent.primary_key) != 1:
            continue
        link = Link(
            parent=parent,
            columns=(OBJECT_ID,),
            parent_columns=parent.primary_key,
            reason=f"beside {name}, which is that of {parent.name}",
            constants={name: value},
        )
        if own.sampler.matched(link) is not None:
            yield link


def _of_typed_owners(own: Guesser) -> Iterator[Link]:
    """embeddable_type and embeddable_id: the first has the name of the owner's class or table."""
    columns = own.relation.columns
    for name, column in columns.items():
        beside = {f"{plain(name)[:-4]}id", f"{plain(name)[:-4]}uuid"} if _says_type(name) else set()
        ids = [other for other in columns if plain(other) in beside]
        if not ids:
            continue
        for (value,) in own.sampler.combinations([column], most=MOST_OWNERS) or ():
            parent = _table_called(own, value.replace("\\", ".").replace("::", ".").split(".")[-1])
            if parent is None or len(parent.primary_key) != 1:
                continue
            link = Link(
                parent=parent,
                columns=(ids[0],),
                parent_columns=parent.primary_key,
                reason=f"beside {name}, which names its table",
                constants={name: value},
                doubt=None
                if len(own.group.members) == 1
                else f"the values of {name} were looked at in {own.relation.schema} alone; remove"
                " each first # if there are no others elsewhere",
            )
            if own.sampler.matched(link) is not None:
                yield link


def _says_type(name: str) -> bool:
    return plain(name).endswith("type") and len(plain(name)) > 4


def _of_names(own: Guesser) -> Iterator[Link]:
    """article_id, or article_embeddings beside articles: where keys match those of a table."""
    relation = own.relation
    stem = _OF_STORES.sub("", relation.name)
    named = [(name, re.sub(r"_?(id|uuid)$", "", name, flags=re.IGNORECASE))
             for name in relation.columns]  # fmt: skip
    tried = [(name, base) for name, base in named if base and base != name]
    tried += [(name, stem) for name in relation.primary_key if stem != relation.name]
    for name, base in tried:
        parent = _table_called(own, base)
        if parent is None or parent.oid == relation.oid or len(parent.primary_key) != 1:
            continue
        link = Link(
            parent=parent,
            columns=(name,),
            parent_columns=parent.primary_key,
            reason="by its name: no foreign key says so",
            doubt=f"no foreign key says that {name} names a row of {parent.name}; remove each"
            " first # if it does",
        )
        if own.sampler.matched(link) is not None:
            yield link


def _table_called(own: Guesser, word: str) -> Relation | None:
    """The table of the same schema that is called so, in the singular or the plural."""
    wanted = plain(word)
    forms = {wanted, f"{wanted}s", f"{wanted}es", re.sub("y$", "ies", wanted)}
    found = [
        name
        for name in own.found.names
        if name.schema == own.relation.schema
        and not name.partition
        and (plain(name.name) in forms or re.sub("s$", "", plain(name.name)) == wanted)
    ]
    if not found:
        return None
    return read_relations(own.sampler.connection, [found[0].oid]).get(found[0].oid)
