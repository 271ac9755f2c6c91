"""Guesses the entry of a table whose embeddings another table holds. Asks only its samplers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from checks.discovery.candidates import Candidate
from checks.discovery.entries import Entry, Line
from checks.discovery.folding import Group
from checks.discovery.guesses import Guesser
from checks.settings.names import TableName, display_identifier, display_name

if TYPE_CHECKING:
    from checks.discovery.candidates import ForeignKey


def store_entry(own: Guesser) -> Entry | None:
    """The entry of the table whose embeddings this one holds, found by a foreign key, if any.

    Meant for a table without a text of its own.
    """
    for key in own.group.example.foreign_keys:
        name = _name_of_parent(own, key)
        if name is None or not set(key.parent_columns) <= key.parent.columns.keys():
            continue
        parent = _guesser_of_parent(own, key, name)
        text = parent.likely.text()
        if text is not None:
            return _entry(own, parent, key, text=text.source, reason=text.reason)
    return None


def _name_of_parent(own: Guesser, key: ForeignKey) -> TableName | None:
    """The parent's name, or a pattern with `*` where the table's own has it; None: none fits."""
    group = own.group
    if len(group.members) == 1:
        return TableName(schema=key.parent.schema, name=key.parent.name)
    name = TableName(schema=group.name.schema, name=key.parent.name, schema_is_pattern=True)
    parents = {
        other.parent.oid
        for member in group.members
        for other in member.foreign_keys
        if other.columns == key.columns
    }
    meant = {n.oid for n in own.found.names if name.match(n.schema, n.name)}
    return name if group.name.schema_is_pattern and meant == parents else None


def _guesser_of_parent(own: Guesser, key: ForeignKey, name: TableName) -> Guesser:
    candidate = Candidate(
        relation=key.parent,
        embeddings=(own.embedding,),
        foreign_keys=(),
        indexes=(),
        estimated_rows=own.group.example.estimated_rows,
    )
    return Guesser(
        group=Group(members=(candidate,), name=name, tenant_from=own.group.tenant_from),
        embedding=own.embedding,
        found=own.found,
        sampler=replace(own.sampler, candidate=candidate),
    )


def _entry(own: Guesser, parent: Guesser, key: ForeignKey, *, text: str, reason: str) -> Entry:
    entry = parent.entry
    held = display_name(own.relation.schema, own.relation.name)
    entry.remarks.append(f"its embeddings are in a table of their own: {held}")
    entry.add("name", str(parent.group.name), f"{held} refers to it")
    columns = tuple(map(display_identifier, key.parent_columns))
    entry.add("key", columns, f"what {held} refers to")
    parent.add_tenant(parent.likely.tenant())
    entry.add("text", text, reason)
    parent.add_where()
    parent.add_times()
    own.entry = entry
    own.add_dimensions()
    own.add_index()
    entry.sections["store"] = [
        Line(key="name", value=str(own.group.name), reason="holds the embeddings"),
        Line(
            key="key",
            value=tuple(map(display_identifier, key.columns)),
            reason="its foreign key",
        ),
        Line(
            key="embedding",
            value=display_identifier(own.embedding.name),
            reason=f"the column of type {own.embedding.full_type}",
        ),
    ]
    return entry
