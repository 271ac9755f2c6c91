"""Guesses one [[tables]] entry from one group of tables; the server validates each guess.

Drops a guess that no sampled row confirms; leaves to a person what could not be guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from checks.database.vectors.types import padded_tail
from checks.discovery.entries import Entry, Line
from checks.discovery.index_lines import index_lines
from checks.discovery.layouts.known import KnownLayout, known_layout, with_datetimes
from checks.discovery.likely import Guess, Likely
from checks.discovery.names import (
    CREATED,
    DELETED,
    EMBEDDED,
    HASH_COLUMN_TYPES,
    HASHES,
    MODELS,
    NO_TENANT_TYPES,
    PARENTS,
    TEXT_TYPES,
    UNWORDED,
    UPDATED,
    named,
    plain,
)
from checks.settings.names import display_identifier, display_name
from checks.settings.values import MOST_DIMENSIONS
from checks.targets.provenance import TIME_TYPES
from checks.wording import plural

if TYPE_CHECKING:
    from checks.database.catalog import Column, Relation
    from checks.discovery.layouts.candidates import Candidates
    from checks.discovery.layouts.folding import Group
    from checks.discovery.samples import TableSampler

LEAST_ALIKE = 3
"""Vectors that must end at one dimension before they are taken to be padded by design."""


@dataclass(kw_only=True, slots=True)
class Guesser:
    """Guesses the entry of one embedding column of one group of tables, by its largest member."""

    group: Group
    found: Candidates
    sampler: TableSampler
    embedding: Column
    layout: KnownLayout | None = field(init=False)
    relation: Relation = field(init=False)
    likely: Likely = field(init=False)
    entry: Entry = field(init=False, default_factory=Entry)

    def __post_init__(self) -> None:
        self.relation = self.group.example.relation
        self.layout = known_layout(self.relation)
        self.likely = Likely(
            group=self.group,
            found=self.found,
            sampler=self.sampler,
            layout=self.layout,
            embedding=self.embedding,
        )

    def guess(self) -> Entry:
        """The whole entry."""
        self._remarks()
        if not self.relation.readable:
            self.entry.missing = "the role may not read it: grant it the right and run this again"
        elif not self.sampler.valid(self._quoted(self.embedding.name)):
            # A materialised view without data, a foreign table that does not answer, a lock.
            self.entry.missing = "nothing can be read of it now: see why, and run this again"
        elif UNWORDED.search(plain(self.embedding.name)):
            self.entry.missing = (
                f"{self.embedding.name} is named after what has no words; remove each first # if it"
                " is of a text all the same"
            )
        self._name()
        self._key()
        text = self.likely.text()
        self.add_tenant(self.likely.tenant())
        self._text(text)
        self.entry.add("embedding", display_identifier(self.embedding.name), self._type_words())
        self.add_dimensions()
        self.add_where()
        self._parents()
        times = self.add_times()
        self._provenance(text, times)
        self.add_index()
        if self.layout is not None and self.layout.title == "pgai vectorizer":
            self._source()
        return self.entry

    # What the table is.

    def _remarks(self) -> None:
        members, remarks = self.group.members, self.entry.remarks
        if self.layout is not None:
            words = f": {self.layout.remark}" if self.layout.remark else ""
            remarks.append(f"{self.layout.title}, known by its columns{words}")
        if len(members) > 1:
            example = display_name(self.relation.schema, self.relation.name)
            remarks.append(f"{plural(len(members), 'table')} of one layout; guessed by {example}")
        if not self.relation.writable_kind:
            remarks.append("not a table: it can be checked, but not repaired")

    def _name(self) -> None:
        kinds = {"p": "partitioned table", "v": "view", "m": "materialised view"}
        kind = kinds.get(self.relation.kind, "foreign table" if self.relation.kind == "f" else "")
        reason = kind or "table"
        estimated = sum(member.estimated_rows for member in self.group.members)
        rows = f", about {plural(estimated, 'row')}" if estimated else ""
        self.entry.add("name", str(self.group.name), reason + rows)

    def _key(self) -> None:
        relation = self.relation
        sound = [
            unique
            for unique in relation.unique_keys
            if unique and all(relation.columns[name].not_null for name in unique)
        ]
        key, reason = relation.primary_key, "the primary key"
        if not key and sound:
            key, reason = min(sound, key=len), "a unique index on NOT NULL columns"
        if key:
            self.entry.add("key", tuple(map(display_identifier, key)), reason)
        else:
            reason = "no unique NOT NULL key was found; without one nothing can be repaired"
            self.entry.add("key", ("id",), reason, stands=False)

    def _type_words(self) -> str:
        return f"the column of type {self.embedding.full_type}"

    def add_dimensions(self) -> None:
        column, entry = self.embedding, self.entry
        if column.dimension is not None:
            entry.dimensions, reason = column.dimension, "as the column's type says"
        else:
            sampled = self.sampler.dimension(column) if self.relation.readable else None
            if sampled is None:
                reason = "the column admits any, and no sampled row has a vector; fill it in"
                entry.add("dimensions", 1536, reason, stands=False)
                return
            entry.dimensions, count, total = sampled
            reason = f"the column admits any; that of {count} of {total} sampled vectors"
        if entry.dimensions > MOST_DIMENSIONS:
            entry.missing = f"more than {MOST_DIMENSIONS} dimensions cannot be declared"
        whole = entry.dimensions
        padded = self._padding(column, whole)
        if padded is not None:
            entry.dimensions, reason = padded
        entry.add("dimensions", entry.dimensions, reason)
        if padded is not None:
            pad = True if column.dimension is not None else whole
            entry.add("pad", pad, f"the column is {column.full_type}; the rest is zeros")

    def _padding(self, column: Column, whole: int) -> tuple[int, str] | None:
        """The dimensions of shorter vectors that a column holds padded, and why; or None.

        Where nearly all end at the same dimension, that is by design, and they are no failures.
        """
        tail = padded_tail(whole)
        if not tail or column.type == "sparsevec" or not self.relation.readable:
            return None
        sampled = self.sampler.filled(column)
        if sampled is None:
            return None
        last, count, total = sampled
        if count < LEAST_ALIKE or 10 * count < 9 * total or last > whole - tail:
            return None
        return last, f"where {count} of {total} sampled vectors end; the model's"

    # What is embedded.

    def _text(self, text: Guess | None) -> None:
        if text is not None:
            self.entry.add("text", text.source, text.reason)
            self._datetimes(text.source)
            return
        self.entry.add("text", "content", "no likely column was found; fill in column or SQL")
        if self.entry.missing is None:
            self.entry.missing = "its text could not be guessed: fill it in and remove the first #"

    def _datetimes(self, text: str) -> None:
        if (other := with_datetimes(text)) == text:
            return
        seen = self.sampler.values(f"CASE WHEN {text} <> {other} THEN 'times' END")
        if seen is not None and seen.present:
            self.entry.remarks.append(
                f"{seen.present:,} of {plural(seen.rows, 'row')} have times such as"
                " 2026-01-02T03:04:05 in their metadata; if these were datetimes, another text was"
                " embedded: see docs/layouts.md"
            )

    # Whose it is.

    def add_tenant(self, tenant: Guess | None) -> None:
        group = self.group
        own_column = tenant is not None and group.tenant_from == "table" and self.layout is None
        if group.tenant_from is not None and not own_column:
            reason = f"what * stands for in the {group.tenant_from}'s name"
            self.entry.add("tenant_from", group.tenant_from, reason)
        elif tenant is not None:
            self.entry.add("tenant", tenant.source, tenant.reason)
        else:
            reason = "no likely column was found; without it all rows are one tenant's"
            self.entry.add("tenant", "tenant_id", reason, stands=False)

    def _source(self) -> None:
        source = self.likely.pgai_source()
        if source is None or len(self.group.members) > 1 or not source.primary_key:
            return
        key = tuple(map(display_identifier, source.primary_key))
        self.entry.sections["source"] = [
            Line(
                key="name",
                value=display_name(source.schema, source.name),
                reason="the table that this one is named after",
            ),
            Line(key="key", value=key, reason="its primary key"),
            Line(key="source_key", value=key, reason="columns of the same names"),
        ]

    # What else is known of a row.

    def add_where(self) -> None:
        for column in named(self.relation.columns.values(), DELETED):
            own = self._quoted(column.name)
            if column.type in TIME_TYPES:
                self.entry.add("where", f"{own} IS NULL", "deleted rows need no embedding")
                return
            if column.type == "boolean":
                self.entry.add("where", f"{own} IS NOT TRUE", "deleted rows need no embedding")
                return

    def _parents(self) -> None:
        """Where parents and children are in one table, only the ones may have embeddings."""
        for column in named(self.relation.columns.values(), PARENTS, not_types=NO_TENANT_TYPES):
            own = self._quoted(column.name)
            for condition, others in (("IS NOT NULL", "IS NULL"), ("IS NULL", "IS NOT NULL")):
                counted = self.sampler.embedded(self.embedding, f"{own} {condition}")
                if counted is not None and counted[0] and counted[1:] == (0, True):
                    reason = f"no row where {own} {others} has an embedding; is that right?"
                    self.entry.add("where", f"{own} {condition}", reason, stands=False)
                    return

    def add_times(self) -> dict[str, Column]:
        """The columns of times; those of the embedding are written once the text is known."""
        columns = self.relation.columns.values()
        kinds = {"created_at": CREATED, "updated_at": UPDATED, "embedded_at": EMBEDDED}
        times = {}
        for key, names in kinds.items():
            found = named(columns, names, types=TIME_TYPES)
            if found:
                times[key] = found[0]
        if "created_at" in times:
            own = self._quoted(times["created_at"].name)
            self.entry.add("created_at", own, "by name and type")
            self.entry.add("grace", "15 minutes", "younger rows are then pending", stands=False)
        return times

    def _provenance(self, text: Guess | None, times: dict[str, Column]) -> None:
        columns, entry = self.relation.columns.values(), self.entry
        if "embedded_at" in times:
            own = display_identifier(times["embedded_at"].name)
            entry.add("embedded_at", own, "by name and type")
        hashes = named(columns, HASHES, types=HASH_COLUMN_TYPES)
        held = ((h, text and self.sampler.digest_held(h, text.source)) for h in hashes)
        hashed = [(column, function) for column, function in held if function]
        if hashed:
            (column, function), *_ = hashed
            reason = f"holds the {function} of the text in sampled rows"
            entry.add("content_hash", display_identifier(column.name), reason)
            if function != "md5":
                entry.add("hash", function, "the digest in that column")
        elif hashes:
            reason = "by name only: no sampled row holds a digest of the text"
            entry.add("content_hash", display_identifier(hashes[0].name), reason, stands=False)
        if "updated_at" in times:
            tells = "embedded_at" in times or bool(hashed)
            reason = "by name and type" if tells else "needs embedded_at or content_hash beside it"
            entry.add("updated_at", self._quoted(times["updated_at"].name), reason, stands=tells)
        models = named(columns, MODELS, types=TEXT_TYPES)
        model = self.sampler.most_frequent(self._quoted(models[0].name)) if models else None
        if models and model is not None and model.strip():
            name = display_identifier(models[0].name)
            entry.add("model_column", name, "by name and type")
            entry.add("model", model, f"the most frequent value of {name} in a sample")

    def add_index(self) -> None:
        members = self.group.members
        lines = index_lines(self.group.example.indexes, self.embedding)
        having = sum(index_lines(one.indexes, self.embedding)[0].stands for one in members)
        if lines[0].stands and 2 * having <= len(members):
            said = f"; {having:,} of {len(members):,} tables have one"
            lines = [replace(line, stands=False, reason=line.reason + said) for line in lines]
        self.entry.lines += lines

    def _quoted(self, name: str) -> str:
        return self.found.quoted[name]
