"""Surveys a whole database: one entry for each group of tables, and the file they make.

Uses one short read-only transaction for the catalog and one for each group; writes nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg

from checks.database.connection import connect, read_only, reason_of
from checks.database.server import read_server
from checks.discovery.entries import entry_text, printable, toml
from checks.discovery.guesses import Guesser
from checks.discovery.layouts.candidates import find_candidates
from checks.discovery.layouts.folding import fold
from checks.discovery.layouts.key_tables import key_tables
from checks.discovery.samples import SAMPLE_ROWS, SAMPLE_TIMEOUT, SMALL_ROWS, TableSampler
from checks.discovery.stores.store_entries import propose_source, store_entries
from checks.errors import CannotExamineError
from checks.settings.names import display_name
from checks.wording import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.catalog import Column
    from checks.database.connection import Connection, ConnectionTarget
    from checks.database.server import Server
    from checks.discovery.entries import Entry
    from checks.discovery.layouts.candidates import Candidates
    from checks.discovery.layouts.folding import Group
    from checks.discovery.layouts.key_tables import KeyTable

CATALOG_TIMEOUT = timedelta(minutes=1)
"""The catalog of tens of thousands of tables takes seconds."""

MODELS = {1536: "text-embedding-3-small", 3072: "text-embedding-3-large"}
"""OpenAI's current models by the dimension of their vectors, as its documentation has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What a database suggests; the entries' lines may still be changed."""

    server: Server
    entries: list[Entry]
    holding: Sequence[KeyTable]
    foreign_views: Sequence[tuple[str, str]]
    given_model: str | None = None
    """What a person says that embedded most of it."""
    fallback_env: str | None = None
    """The variable of the key that a person named for tenants that have none of their own."""

    @property
    def standing(self) -> list[Entry]:
        """The entries in force, in the order of the file."""
        return [entry for entry in self.entries if entry.missing is None]

    @property
    def dimensions(self) -> int | None:
        """What most entries in force have; None where no vector tells."""
        known = [entry.dimensions for entry in self.standing if entry.dimensions is not None]
        return Counter(known).most_common(1)[0][0] if known else None

    @property
    def model(self) -> tuple[str, str] | None:
        """The model that embedded most of it, and who says so; None where only a person knows."""
        if self.given_model is not None:
            return self.given_model, "as --model says"
        alike = [entry for entry in self.standing if entry.dimensions == self.dimensions]
        named = {own for entry in alike if (own := _own_model(entry)) is not None}
        if len(named) == 1:
            return named.pop(), "as all rows that name one have it"
        by_dimensions = MODELS.get(self.dimensions or 0)
        if by_dimensions is None:
            return None
        return by_dimensions, "by its dimensions only: the repair compares before it writes"

    def model_of(self, entry: Entry) -> str | None:
        """The model that embedded an entry; None where only a person knows."""
        own = _own_model(entry)
        dimensions = entry.dimensions or self.dimensions
        if own is not None or dimensions != self.dimensions:
            return own or MODELS.get(dimensions or 0)
        return None if self.model is None else self.model[0]

    @property
    def text(self) -> str:
        """The settings file, with a reason for each value."""
        return _file(self)


def _own_model(entry: Entry) -> str | None:
    lines = [line for line in entry.lines if line.key == "model" and line.stands]
    return str(lines[0].value) if lines else None


def survey(place: ConnectionTarget) -> Survey:
    """Looks at everything that may hold embeddings.

    Raises CannotExamineError where the database cannot be reached or holds no embedding.
    """
    with connect(place) as connection:
        try:
            return _survey(connection, place)
        except psycopg.Error as error:
            reason = reason_of(error)
    raise CannotExamineError(f"the survey of {place.place} broke off: {reason}; run it again")


def _survey(connection: Connection, place: ConnectionTarget) -> Survey:
    with read_only(connection, place, statement_timeout=CATALOG_TIMEOUT):
        server = read_server(connection)
        found = find_candidates(connection)
        holding = tuple(key_tables(connection, found)) if found.candidates else ()
    if not found.candidates:
        raise CannotExamineError(_nothing(server, found))
    known: dict[object, list[Entry]] = {}
    unlisted: frozenset[int] = frozenset()
    while True:
        pairs: list[tuple[Group, Entry]] = []
        groups = fold(found.candidates, found.names, unlisted=unlisted)
        for group in groups:
            members = frozenset(member.relation.oid for member in group.members)
            if members not in known:
                with read_only(connection, place, statement_timeout=SAMPLE_TIMEOUT):
                    known[members] = [
                        entry
                        for column in group.example.embeddings
                        for entry in _entries(connection, server, found, group, column)
                    ]
            pairs += [(group, entry) for entry in known[members]]
        strays = _strays(pairs, found)
        if strays <= unlisted:
            break
        # Each round takes at least one more table out of every pattern, so the loop ends.
        unlisted |= strays
    entries = [entry for _, entry in pairs]
    _keep_one_of_a_place(entries)
    return Survey(
        server=server, entries=entries, holding=holding, foreign_views=found.foreign_views
    )


def _strays(pairs: Sequence[tuple[Group, Entry]], found: Candidates) -> frozenset[int]:
    """Tables that a pattern means beside its own, and that get no entry in force by their name.

    A person must complete their entry, or they are the store of another table.
    """
    standing = {entry.lines[0].value for _, entry in pairs if entry.missing is None}
    strays: set[int] = set()
    for group, entry in pairs:
        # A store is declared in the entry of its table, whose pattern means no other table.
        own_name = entry.lines[0].value == str(group.name)
        if group.tenant_from is None or entry.missing is not None or not own_name:
            continue
        own = {member.relation.oid for member in group.members}
        strays |= {
            name.oid
            for name in found.names
            if name.oid not in own
            and group.name.match(name.schema, name.name)
            and display_name(name.schema, name.name) not in standing
        }
    return frozenset(strays)


def _nothing(server: Server, found: Candidates) -> str:
    database = f"database {server.database!r}"
    if server.vector_version is None:
        missing = "; the extension vector is not installed there"
    else:
        missing = f" in its {plural(len(found.names), 'table or view', 'tables and views')}"
    return (
        f"expected a column of embeddings in {database}, found none{missing}; is it the right"
        " database, and may the role see its schemas?"
    )


def _entries(
    connection: Connection, server: Server, found: Candidates, group: Group, column: Column
) -> list[Entry]:
    sampler = TableSampler(connection=connection, candidate=group.example, server=server)
    guesser = Guesser(group=group, found=found, sampler=sampler, embedding=column)
    text = guesser.likely.text() if guesser.relation.readable else None
    if guesser.relation.readable and (text is None or text.weak):
        entries = store_entries(guesser, keyed=text is not None)
        # What names alone suggest is no better than the only text there is.
        if entries and (text is None or all(entry.missing is None for entry in entries)):
            return entries
        guesser = Guesser(group=group, found=found, sampler=sampler, embedding=column)
    entry = guesser.guess()
    propose_source(guesser, entry)
    return [entry]


def _keep_one_of_a_place(entries: Sequence[Entry]) -> None:
    """Comment out a second entry of the same embeddings of one table."""
    seen = set()
    for entry in entries:
        held = [line for line in entry.lines if line.key == "embedding"]
        held += entry.sections.get("store", [])
        place = (entry.lines[0].value, *((line.key, str(line.value)) for line in held))
        if entry.missing is None and place in seen:
            entry.missing = "an entry of this name stands above; choose which one to keep"
        elif entry.missing is None:
            seen.add(place)


def _file(found: Survey) -> str:
    common = found.dimensions
    head = [
        f"# Guessed from database {printable(found.server.database)}."
        " Read it before you rely on it:",
        "# each value has its reason beside it, and what stands behind a # is for you to decide.",
        f"# Beyond {SMALL_ROWS:,} rows, {SAMPLE_ROWS:,} from all over a table stand for it."
        " Every option: integrity.example.toml.",
    ]
    for name, owner in found.foreign_views:
        words = f"{name} is a view of role {owner}, or upon one: not read"
        head.append(f"# {printable(words)}, as what it calls would run as this role.")
    if not found.standing:
        head.append("# NO ENTRY CAN STAND AS IT IS: fill one in, then run pytest.")
    texts = ["\n".join(head) + "\n", _provider(common, found.model), *_keys(found)]
    for entry in found.entries:
        if entry.dimensions not in (None, common) and not any(
            line.key == "model" for line in entry.lines
        ):
            _add_model(entry)
        texts.append(entry_text(entry))
    return "\n".join(texts)


def _keys(found: Survey) -> list[str]:
    """The section for keys; what tables may hold, and whose key is for all, a person decides."""
    lines = []
    for one in found.holding:
        words = f"{one.name} looks as if {one.column} held a key for each tenant; no value was read"
        if one.encrypted:
            words += ". It is encrypted: a program that deciphers it goes into `command`"
        lines.append(f"# {printable(words)}")
    proposed = [f"#sql = {toml(one.sql)}" for one in found.holding]
    given = found.fallback_env
    if given is not None:
        words = "as --fallback-env says: for every tenant without a key of its own"
        proposed.append(f"fallback_env = {toml(given)}  # {words}")
    elif any(not _has_tenant(entry) for entry in found.standing):
        words = "the key of tables without tenants, and of tenants without one"
        proposed.append(f'#fallback_env = "OPENAI_API_KEY"  # {words}')
    if not proposed:
        return []
    return ["\n".join([*lines, "#[keys]" if given is None else "[keys]", *proposed]) + "\n"]


def _has_tenant(entry: Entry) -> bool:
    return any(line.key in ("tenant", "tenant_from") and line.stands for line in entry.lines)


def _provider(dimensions: int | None, known: tuple[str, str] | None) -> str:
    lines = ["[provider]"]
    if dimensions is None:
        lines.append("#dimensions = 1536  # no vector tells; fill in the model's")
    else:
        lines.append(f"dimensions = {dimensions}  # what most entries below have")
    mark = "#" if known is None else ""
    model, words = known or ("text-embedding-3-small", "not known by the dimensions; fill it in")
    lines.append(f"{mark}model = {toml(model)}  # {printable(words)}")
    return "\n".join(lines) + "\n"


def _add_model(entry: Entry) -> None:
    model = MODELS.get(entry.dimensions or 0)
    words = "by its dimensions only" if model else "not known by the dimensions; fill it in"
    entry.add("model", model or "text-embedding-3-small", words, stands=model is not None)
