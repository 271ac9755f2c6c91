"""Guesses the entries of tables whose embeddings another table holds. Asks only its samplers."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg import sql

from checks.discovery.entries import Entry, Line
from checks.discovery.guesses import Guesser
from checks.discovery.layouts.candidates import Candidate
from checks.discovery.layouts.folding import Group
from checks.discovery.likely import NAMESPACED, Guess
from checks.discovery.names import (
    CREATED,
    EMBEDDED,
    HASH_COLUMN_TYPES,
    HASHES,
    JSON_TYPES,
    MODELS,
    TENANTS,
    TEXT_TYPES,
    UPDATED,
    named,
    plain,
)
from checks.discovery.stores.json_texts import ANY, AS_JSON, NO_STRING, STRING, text_at
from checks.discovery.stores.links import links_of
from checks.discovery.stores.store_keys import MOST_FIELDS, store_key
from checks.discovery.stores.unembedded import tell_unembedded
from checks.settings.names import TableName, display_identifier, display_name
from checks.targets.provenance import TIME_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from checks.database.catalog import Column
    from checks.discovery.link import Link
    from checks.discovery.stores.store_keys import StoreKey

ROOMY = ("text", "character varying", "character varying(255)", "character varying(191)")
"""Types of an id that hold a UUID in letters."""

_FIELD = re.compile(r"(field|attribute|column|property|path)(name)?$")
"""How a column is called that says which field of its owner a row is of."""
_PATH = re.compile(r"[\w-]+(\.[\w-]+|\[\d+\])+")
"""A field within a field of a JSON value."""

UNKNOWN = Guess(source="content", reason="no likely column was found; fill in column or SQL")


def store_entries(own: Guesser, *, keyed: bool = False) -> list[Entry]:
    """The entries of the tables whose embeddings this one holds, one for each of their fields.

    Meant for a table without a text of its own. `keyed`: by links alone that a unique key holds,
    where the table may be something else.
    """
    entries: list[Entry] = []
    for link in links_of(own):
        name = _name_of_parent(own, link)
        # One owner is enough, unless each row says of which type its owner is.
        if name is None or (entries and not link.constants):
            continue
        uniques = own.relation.unique_keys
        if keyed and not any(set(link.columns) <= set(unique) for unique in uniques):
            continue
        key = store_key(own, link)
        parents = [_guesser_of_parent(own, link, name) for _ in key.fields]
        texts = list(map(_field, parents, key.fields))
        instead = parents[0].likely.text()
        if not any(texts) and instead is None:
            continue
        for constants, parent, text in zip(key.fields, parents, texts, strict=True):
            doubt = link.doubt if text else _doubt(link, key, constants, others=any(texts))
            of_field = replace(link, doubt=doubt)
            restricted = _restricted(own, constants)
            entries.append(
                _entry(restricted, parent, of_field, constants, text or instead or UNKNOWN)
            )
    return entries


def propose_source(own: Guesser, entry: Entry) -> None:
    """A parent that has a text too, as what the rows may be cut from: for a person to confirm."""
    if "source" in entry.sections or entry.missing is not None or len(own.group.members) > 1:
        return
    for link in links_of(own):
        name = TableName(schema=link.parent.schema, name=link.parent.name)
        if any(plain(column) in TENANTS for column in link.columns):
            continue
        text = _guesser_of_parent(own, link, name).likely.text()
        if text is None or text.weak:
            continue
        reason = "has a text too; remove each # if the rows here are pieces of it"
        key = tuple(map(display_identifier, link.parent_columns))
        own_key = tuple(map(display_identifier, link.columns))
        entry.sections["source"] = [
            Line(key="name", value=str(name), reason=reason, stands=False),
            Line(key="key", value=key, reason="its key", stands=False),
            Line(key="source_key", value=own_key, reason=link.reason, stands=False),
        ]
        return


def _name_of_parent(own: Guesser, link: Link) -> TableName | None:
    """The parent's name, or a pattern with `*` where the table's own has it; None: none fits."""
    group = own.group
    if len(group.members) == 1:
        return TableName(schema=link.parent.schema, name=link.parent.name)
    name = TableName(schema=group.name.schema, name=link.parent.name, schema_is_pattern=True)
    schemas = {member.relation.schema for member in group.members}
    parents = {
        other.parent.oid
        for member in group.members
        for other in member.foreign_keys
        if other.columns == link.columns
    } or {n.oid for n in own.found.names if n.name == link.parent.name and n.schema in schemas}
    if len(parents) != len(schemas):
        return None
    meant = {n.oid for n in own.found.names if name.match(n.schema, n.name)}
    return name if group.name.schema_is_pattern and meant == parents else None


def _guesser_of_parent(own: Guesser, link: Link, name: TableName) -> Guesser:
    candidate = Candidate(
        relation=link.parent,
        embeddings=(own.embedding,),
        foreign_keys=(),
        indexes=(),
        estimated_rows=own.group.example.estimated_rows,
    )
    words = {link.parent.schema, link.parent.name, *link.parent.columns}
    found = replace(own.found, quoted={**own.sampler.quoted(words), **own.found.quoted})
    return Guesser(
        group=Group(members=(candidate,), name=name, tenant_from=own.group.tenant_from),
        embedding=own.embedding,
        found=found,
        sampler=replace(own.sampler, candidate=candidate, condition=None),
    )


def _restricted(own: Guesser, constants: Mapping[str, str]) -> Guesser:
    """The same, of the rows that have these values alone."""
    sampler = own.sampler.of(constants)
    return Guesser(group=own.group, embedding=own.embedding, found=own.found, sampler=sampler)


def _doubt(link: Link, key: StoreKey, constants: Mapping[str, str], *, others: bool) -> str | None:
    """Why a person must say what is embedded, where what a column names was not understood.

    `others`: whether other values of the same columns were.
    """
    if named := [name for name in constants if others or _FIELD.search(plain(name))]:
        said = f"what {named[0]} names is no column or key of {link.parent.name}"
        if "*" in constants[named[0]]:
            said += ", or one of several values whose order is not kept (jsonb)"
        return f"{said}; correct text, and remove each first #"
    if named := [name for name in key.further if _FIELD.search(plain(name))]:
        return f"{named[0]} names more than {MOST_FIELDS} fields; write an entry for each"
    return link.doubt


def _field(parent: Guesser, constants: Mapping[str, str]) -> Guess | None:
    """The field of the parent's row that one of the constants names, if any."""
    for value in constants.values():
        for field in _fields_called(parent, value):
            guess = parent.likely.borne_out(field)
            if guess is not None:
                return guess
    return None


def _fields_called(parent: Guesser, value: str) -> Iterator[Guess]:
    """What a name may mean, the likeliest first."""
    columns = parent.relation.columns
    if value in columns and columns[value].type in TEXT_TYPES:
        quoted = parent.found.quoted[value]
        yield Guess(source=quoted, reason="the column that its store names")
    for column in columns.values():
        if column.type not in JSON_TYPES:
            continue
        own, literal = parent.found.quoted[column.name], sql.Literal(value).as_string(None)
        if parent.relation.primary_key == NAMESPACED and column.type == "jsonb":
            yield from _embedded_by_langgraph(parent, own, value)
            continue
        yield Guess(source=f"{own} ->> {literal.strip()}", reason="the key that its store names")
        if _PATH.fullmatch(value):
            steps = ",".join(re.findall(r"[\w-]+", value))
            yield Guess(source=f"{own} #>> '{{{steps}}}'", reason="the path that its store names")


def _embedded_by_langgraph(parent: Guesser, own: str, path: str) -> Iterator[Guess]:
    if path == "$":
        yield Guess(source=AS_JSON.format(own), reason="the whole value, as LangGraph embeds it")
        return
    other = text_at(own, path, NO_STRING)
    if other is None:
        return
    seen = parent.sampler.values(other)
    leaf = STRING if seen is not None and not seen.present else ANY
    told = text_at(own, path, leaf)
    if told is not None:
        yield Guess(source=told, reason="what its store names, as LangGraph embeds it")


def _entry(
    own: Guesser, parent: Guesser, link: Link, constants: Mapping[str, str], text: Guess
) -> Entry:
    entry = parent.entry
    held = display_name(own.relation.schema, own.relation.name)
    entry.remarks.append(f"its embeddings are in a table of their own: {held}")
    entry.missing = link.doubt
    entry.add("name", str(parent.group.name), f"{held} refers to it")
    columns = tuple(map(display_identifier, link.parent_columns))
    entry.add("key", columns, f"what {held} refers to")
    parent.add_tenant(parent.likely.tenant())
    entry.add("text", text.source, text.reason)
    parent.add_where()
    if text is not UNKNOWN and parent.relation.primary_key == NAMESPACED:
        tell_unembedded(parent, entry, link, constants, held=own.relation, text=text.source)
    times = parent.add_times()
    own.entry = entry
    lines = [
        Line(key="name", value=str(own.group.name), reason="holds the embeddings"),
        Line(key="key", value=tuple(map(display_identifier, link.columns)), reason=link.reason),
        Line(
            key="embedding",
            value=display_identifier(own.embedding.name),
            reason=f"the column of type {own.embedding.full_type}",
        ),
    ]
    if constants:
        values = {
            display_identifier(name): sql.Literal(value).as_string(None).strip()
            for name, value in constants.items()
        }
        reason = "what tells its rows from those of other things in the same table"
        lines.append(Line(key="constants", value=values, reason=reason))
    own = _tagged(own, link, lines)
    own.add_dimensions()
    made = list(_time_of_embedding(own, link, times.get("updated_at")))
    lines += made
    if "updated_at" in times:
        stands = any(line.stands for line in made)
        reason = "by name and type" if stands else "needs embedded_at in the store"
        quoted = parent.found.quoted[times["updated_at"].name]
        entry.add("updated_at", quoted, reason, stands=stands)
    own.add_index()
    lines += _unfilled(own, {*link.columns, *constants}, lines)
    entry.sections["store"] = lines
    return entry


def _tagged(own: Guesser, link: Link, lines: list[Line]) -> Guesser:
    """`own` with the rows of the most frequent model alone, where a column tells the model."""
    models = named(own.relation.columns.values(), MODELS, types=TEXT_TYPES)
    models = [column for column in models if column.name not in link.columns]
    quoted = own.found.quoted[models[0].name] if models else ""
    model = own.sampler.most_frequent(quoted) if models else None
    if model is None or not model.strip():
        return own
    name = display_identifier(models[0].name)
    lines.append(Line(key="model_column", value=name, reason="by name and type"))
    own.entry.add("model", model, f"the most frequent value of {name} in a sample")
    entry, own = own.entry, _restricted(own, {models[0].name: model})
    own.entry = entry
    return own


def _time_of_embedding(own: Guesser, link: Link, updated_at: Column | None) -> Iterator[Line]:
    """When a vector was made: by its name, or when its row was, if that is after most edits."""
    columns = own.relation.columns.values()
    certain = named(columns, EMBEDDED, types=TIME_TYPES)
    written = named(columns, UPDATED, types=TIME_TYPES) + named(columns, CREATED, types=TIME_TYPES)
    found = (certain + written)[:1]
    for column in found:
        stands, reason = True, "by name and type"
        if not certain:
            stands = updated_at is not None and own.sampler.later(link, column, updated_at)
            reason = "when its row was written, after most edits of the text"
            if not stands:
                reason = "when its row was written; does a new vector change it?"
        name = display_identifier(column.name)
        yield Line(key="embedded_at", value=name, reason=reason, stands=stands)
    for column in named(columns, HASHES, types=HASH_COLUMN_TYPES)[:1]:
        name, reason = display_identifier(column.name), "by name only: is it of the text?"
        yield Line(key="content_hash", value=name, reason=reason, stands=False)


def _unfilled(own: Guesser, filled: set[str], lines: list[Line]) -> Iterator[Line]:
    """The values that a new row needs beside; those that only a person knows behind `#`."""
    written = [line.value for line in lines if line.stands]
    needed = {
        display_identifier(column.name): _made_up(own, column)
        for column in own.relation.columns.values()
        if column.not_null
        and not column.has_default
        and column.name not in filled
        and display_identifier(column.name) not in written
    }
    if needed:
        reason = "NOT NULL without a default: what a repair puts into a new row"
        values = {name: "..." if value is None else value for name, value in needed.items()}
        yield Line(key="insert", value=values, reason=reason, stands=None not in needed.values())


def _made_up(own: Guesser, column: Column) -> str | None:
    """SQL of a value that says nothing: a new id, or the time; None where a value has a meaning."""
    if (column.name,) == own.relation.primary_key and column.type == "uuid":
        return "gen_random_uuid()"
    if (column.name,) == own.relation.primary_key and column.full_type in ROOMY:
        return "gen_random_uuid()::text"
    times = named([column], (*CREATED, *UPDATED), types=TIME_TYPES)
    return "now()" if times else None
