"""Tries likely expressions for a table's text and tenant, the most certain first.

Takes a guess that the server accepts and no sample contradicts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg import sql

from checks.discovery.entries import printable
from checks.discovery.layouts.candidates import STORE_SUFFIX
from checks.discovery.names import (
    COMPOSED,
    HASHES,
    JSON_TENANTS,
    JSON_TEXT,
    JSON_TYPES,
    LABELS,
    MODELS,
    NAMES_A_ROW,
    NO_TENANT_TYPES,
    NO_TEXT,
    TENANTS,
    TEXT,
    TEXT_TYPES,
    TITLES,
    ending_in,
    named,
    plain,
    subject_of,
    words_of,
)
from checks.settings.names import display_name
from checks.wording import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checks.database.catalog import Column, Relation
    from checks.discovery.layouts.candidates import Candidates
    from checks.discovery.layouts.folding import Group
    from checks.discovery.layouts.known import KnownLayout
    from checks.discovery.samples import TableSampler, Values


NAMESPACED = ("prefix", "key")
"""The key of LangGraph's table `store`."""

LANGCHAIN = {"langchain_id", "langchain_metadata"}
"""Columns of LangChain's PGVectorStore, which embeds its column of content alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """An SQL expression and the reason for it."""

    source: str
    reason: str
    weak: bool = False
    """Whether it is taken for want of a better one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Likely:
    """Guesses text and tenant of one group of tables, by its largest member."""

    group: Group
    found: Candidates
    sampler: TableSampler
    layout: KnownLayout | None
    embedding: Column

    @property
    def relation(self) -> Relation:
        return self.group.example.relation

    def text(self) -> Guess | None:
        """The first text that the server accepts and that sampled rows have."""
        for guess in self._texts():
            if (checked := self.borne_out(guess, blank_counts=False)) is not None:
                return checked
        return None

    def tenant(self) -> Guess | None:
        """The first tenant that the server accepts and that sampled rows have."""
        for guess in self._tenants():
            if (checked := self.borne_out(guess)) is not None:
                return checked
        return None

    def _texts(self) -> Iterator[Guess]:
        if self.layout is not None and self.layout.embedding == self.embedding.name:
            yield Guess(source=self.layout.text, reason=f"as {self.layout.title} has it")
        columns = self.relation.columns.values()
        subject = subject_of(self.embedding.name)
        if subject:
            for column in named(columns, (subject,), types=TEXT_TYPES):
                reason = f"{printable(self.embedding.name)} is named after it"
                yield Guess(source=self._quoted(column.name), reason=reason)
        texts = named(columns, TEXT, types=TEXT_TYPES)
        composed = [text for text in texts if text.generated]
        for column in (*named(columns, COMPOSED, types=TEXT_TYPES), *composed):
            reason = "named like a text that was put together to be embedded"
            if column.generated:
                reason = "a text that the table itself puts together"
            yield Guess(source=self._quoted(column.name), reason=reason)
        # Where each embedding is named after its text, a title is hardly in two of them.
        apart = {subject_of(one.name) for one in self.group.example.embeddings if subject}
        titles = [
            title
            for title in named(columns, TITLES, types=TEXT_TYPES)
            if plain(title.name) not in apart and not LANGCHAIN & self.relation.columns.keys()
        ]
        for column in texts:
            own = self._quoted(column.name)
            if titles:
                source = f"concat_ws(E'\\n\\n', {self._quoted(titles[0].name)}, {own})"
                yield Guess(source=source, reason=f"a title and a text; {own} if that is all")
            yield Guess(source=own, reason="named like a text")
        yield from self._json_guesses(JSON_TEXT, "text")
        titles += ending_in(columns, TITLES, types=TEXT_TYPES)
        for column in ending_in(columns, TEXT, types=TEXT_TYPES):
            own = self._quoted(column.name)
            reason = "its name ends like a text's"
            if titles:
                source = f"concat_ws(E'\\n\\n', {self._quoted(titles[0].name)}, {own})"
                words = f"a title, and {reason}; {own} if that is all"
                yield Guess(source=source, reason=words, weak=True)
            yield Guess(source=own, reason=reason, weak=True)
        free = [
            column
            for column in columns
            if column.type in TEXT_TYPES
            and column.readable
            and column.name not in self.relation.primary_key
            and plain(column.name) not in (*LABELS, *TENANTS, *MODELS, *HASHES)
            and not NAMES_A_ROW.search(column.name)
            and not NO_TEXT.intersection(words_of(column.name))
        ]
        if len(free) == 1:
            own = self._quoted(free[0].name)
            yield Guess(source=own, reason="the only text column", weak=True)

    def _tenants(self) -> Iterator[Guess]:
        if self.layout is not None:
            source = self.layout.tenant_in(self.relation, self.found.quoted)
            if source is not None:
                yield from self._within_one(source)
                yield Guess(source=source, reason=f"as {self.layout.title} has it")
        for column in self._tenant_columns(self.relation):
            yield Guess(source=self._quoted(column.name), reason="named like a tenant")
        if self.relation.primary_key == NAMESPACED:
            yield Guess(source="prefix", reason="the namespace of LangGraph's store")
        yield from self._json_guesses(JSON_TENANTS, "tenant")
        yield from self._tenants_of_parents()

    def _within_one(self, source: str) -> Iterator[Guess]:
        """A key that tells all rows of what a framework takes for one tenant apart."""
        whole = self.sampler.values(source) if self.relation.readable else None
        if whole is None or whole.distinct != 1:
            return
        for guess in self._json_guesses(JSON_TENANTS, "tenant"):
            seen = self.sampler.values(guess.source)
            if seen is not None and seen.distinct > 1 and seen.present == seen.rows:
                yield guess

    def _tenant_columns(self, relation: Relation) -> list[Column]:
        columns = named(relation.columns.values(), TENANTS, not_types=NO_TENANT_TYPES)
        return [column for column in columns if (column.name,) != relation.primary_key]

    def _tenants_of_parents(self) -> Iterator[Guess]:
        own = self._quoted(self.relation.name)
        for columns, parent, parent_columns in self._parents():
            for tenant in self._tenant_columns(parent):
                there = f"{self._quoted(parent.schema)}.{self._quoted(parent.name)}"
                same = " AND ".join(
                    f"parent.{self._quoted(referred)} = {own}.{self._quoted(column)}"
                    for column, referred in zip(columns, parent_columns, strict=True)
                )
                # Printed for the owner of the database, with names as its server quotes them.
                source = (
                    f"(SELECT parent.{self._quoted(tenant.name)} FROM {there} AS parent"  # noqa: S608
                    f" WHERE {same})"
                )
                name = printable(display_name(parent.schema, parent.name))
                yield Guess(source=source, reason=f"the tenant of its row in {name}")

    def _parents(self) -> Iterator[tuple[tuple[str, ...], Relation, tuple[str, ...]]]:
        """What the rows belong to: by foreign key, or by the name of a pgai store."""
        # A subselect names one table; a pattern means several.
        if len(self.group.members) > 1:
            return
        for key in self.group.example.foreign_keys:
            yield key.columns, key.parent, key.parent_columns
        source = self.pgai_source()
        if source is not None and set(source.primary_key) <= self.relation.columns.keys():
            yield source.primary_key, source, source.primary_key

    def pgai_source(self) -> Relation | None:
        """The table whose rows pgai cut into these chunks, if it is there."""
        name = self.relation.name.removesuffix(STORE_SUFFIX)
        return self.found.neighbours.get((self.relation.schema, name))

    def _json_guesses(self, names: tuple[str, ...], kind: str) -> Iterator[Guess]:
        for column in self.relation.columns.values():
            if column.type not in JSON_TYPES or not column.readable:
                continue
            keys = [key for key in self.sampler.json_keys(column) if plain(key) in names]
            for key in sorted(keys, key=lambda key: names.index(plain(key))):
                literal = sql.Literal(key).as_string(None).strip()
                source = f"{self._quoted(column.name)} ->> {literal}"
                yield Guess(source=source, reason=f"a key of its JSON, named like a {kind}")

    def borne_out(self, guess: Guess, *, blank_counts: bool = True) -> Guess | None:
        """The guess with what the sample shows; None where it is invalid, or empty in every row."""
        if not self.relation.readable or not self.sampler.valid(guess.source):
            return None
        seen = self.sampler.values(guess.source, blank_counts=blank_counts)
        if seen is not None and seen.rows and not seen.present:
            return None
        return replace(guess, reason=f"{guess.reason}; {_shown(seen)}")

    def _quoted(self, name: str) -> str:
        return self.found.quoted[name]


def _shown(seen: Values | None) -> str:
    if seen is None:
        return "the sample could not be read"
    if not seen.rows:
        return "no rows to sample"
    rows, different = plural(seen.rows, "row"), plural(seen.distinct, "value")
    missing = "" if seen.present == seen.rows else f", {seen.rows - seen.present:,} without one"
    if seen.extent == "all":
        return f"{different} in {'all ' if seen.rows > 1 else ''}{rows}{missing}"
    where = f"the first {rows}" if seen.extent == "the first" else f"{rows} from all over the table"
    return f"at least {different} in {where}{missing}"
