"""Holds the text of each entry that discovery proposes against the vectors that are stored.

Asks the provider within bounds that are said before; changes the proposal, and no database.
"""

from __future__ import annotations

import threading
import tomllib
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from checks.database.connection import connect, read_only, reason_of
from checks.discovery.entries import Line
from checks.discovery.samples import SAMPLE_ROWS
from checks.errors import CannotExamineError
from checks.row_checks.applied import applied_checks
from checks.row_checks.row_relation import rows_of
from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.settings.integrity_toml import settings_in
from checks.settings.names import display_name
from checks.targets.resolution import resolve
from checks.wording import dollars, plural
from remediation.provider.embedders import Embedders
from remediation.provider.keys import Key, MissingKey, names_a_key
from remediation.provider.tokens import token_counter
from remediation.run.preflight import endpoint_of, key_ring, provider_at, rate_limits
from remediation.selection.row_reader import RowReader
from remediation.table_repair.probing.part_search import MOST_TEXTS, PartSearch
from remediation.table_repair.probing.probe import probe
from remediation.table_repair.probing.samples import samples
from remediation.table_repair.probing.second_look import SecondLook, most_of_second_look
from remediation.throttling.budget import budget_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from checks.database.connection import Connection, ConnectionTarget
    from checks.discovery.entries import Entry
    from checks.discovery.survey import Survey
    from checks.settings.integrity_toml import Settings
    from checks.targets.target import Target
    from remediation.provider.keys import KeyRing
    from remediation.provider.rate_limits import RateLimits
    from remediation.table_repair.probing.probe import ProbeResult
    from remediation.table_repair.probing.samples import Sample
    from remediation.throttling.budget import Budget

MOST_TABLES = 20
"""Tables that are probed; what a text is in twenty says much of the others."""
MOST_MEMBERS = 3
"""Of which so many by one entry whose name is a pattern."""
MOST_TENANTS = 20
"""Tenants of a table of which the one with most healthy rows is asked for."""
LOOKS = 2
"""How often variants are tried: those of the declared text, then those of the best of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Probe:
    """What is asked of one entry."""

    entry: Entry
    target: Target
    reader: RowReader
    sample: Sample


@dataclass(kw_only=True)
class TextProbe:
    """Of one survey. Create, then `run` once: it changes the survey's entries."""

    survey: Survey
    place: ConnectionTarget
    environment: Mapping[str, str]
    say: Callable[[str], None]
    """Told what will be asked, before it is."""

    def run(self) -> None:
        """Probe each entry in force. Raises CannotExamineError, RepairRefusedError, SettingsError.

        Why an entry could not be probed stands above it.
        """
        settings = self._settings()
        with connect(self.place) as connection:
            try:
                with self._reading(connection, settings):
                    targets = resolve(connection, settings, self.survey.server)
                    # Where no variable holds a tenant's key, no two can share one.
                    most = None if names_a_key(settings.keys.env, self.environment) else SAMPLE_ROWS
                    tenants = {
                        target.name: _tenants(connection, target, most)
                        for target in targets
                        if target.scannable
                    }
            except psycopg.Error as error:
                raise CannotExamineError(
                    f"cannot list the tenants, whose names decide whose key is whose:"
                    f" {reason_of(error)}"
                ) from None
            known = [tenant for of_table in tenants.values() for tenant in of_table]
            keys = key_ring(connection, self.place, settings, self.environment, known)
            probes: list[_Probe] = []
            for entry, table in zip(self.survey.standing, settings.tables, strict=True):
                found = [t for t in targets if t.declared is table and t.scannable]
                if not found:
                    _remark(entry, "a `schema` finding stands in its way; run pytest")
                elif self.survey.model_of(entry) is None:
                    _remark(entry, "its dimensions do not tell the model; name it by --model")
                elif len(probes) >= MOST_TABLES:
                    _remark(entry, f"{MOST_TABLES} other tables were")
                else:
                    for target in found[:MOST_MEMBERS]:
                        probes += self._planned(
                            connection, settings, keys, entry, target, tenants[target.name]
                        )
            self._announce(settings, probes)
            budget, limits = budget_of(settings), rate_limits(settings)
            first: dict[int, Target] = {}
            for one in probes:
                another = first.setdefault(id(one.entry), one.target) is not one.target
                try:
                    result = self._probe(connection, settings, keys, budget, limits, one)
                    if isinstance(result, str):
                        _remark(one.entry, result)
                    elif another and result.cosines and not result.agrees:
                        own = _own_entry(one)
                        self.survey.entries.insert(self.survey.entries.index(one.entry), own)
                        _learn(own, result)
                    elif not another:
                        _learn(one.entry, result)
                except psycopg.Error as error:
                    _remark(one.entry, reason_of(error))

    def _settings(self) -> Settings:
        content = tomllib.loads(self.survey.text, parse_float=Decimal)
        return settings_in(content, row_checks=ROW_CHECK_NAMES, named="the proposed file")

    def _reading(self, connection: Connection, settings: Settings) -> AbstractContextManager[Any]:
        timeout = settings.database.statement_timeout
        return read_only(connection, self.place, statement_timeout=timeout)

    def _planned(
        self,
        connection: Connection,
        settings: Settings,
        keys: KeyRing,
        entry: Entry,
        target: Target,
        tenants: list[str | None],
    ) -> Iterator[_Probe]:
        asked = {tenant: keys.find(tenant) for tenant in tenants}
        having = [tenant for tenant, key in asked.items() if isinstance(key, Key)][:MOST_TENANTS]
        missing = [key.reason for key in asked.values() if isinstance(key, MissingKey)]
        if not having:
            _remark(entry, f"{missing[0] if missing else 'no row'}; or --fallback-env=NAME")
            return
        reader = RowReader(
            target=target,
            checks=tuple(check for check in applied_checks(target) if check.remedy == "re-embed"),
            place=self.place,
            timeout=settings.database.statement_timeout,
        )
        try:
            sampled = self._samples(connection, settings, reader, having)
        except psycopg.Error as error:
            _remark(entry, reason_of(error))
            return
        if not sampled:
            _remark(entry, "no healthy row of a tenant that has a key")
            return
        largest = max(sampled, key=lambda one: (len(one.texts), -having.index(one.tenant)))
        yield _Probe(entry=entry, target=target, reader=reader, sample=largest)

    def _samples(
        self,
        connection: Connection,
        settings: Settings,
        reader: RowReader,
        tenants: Sequence[str | None],
    ) -> list[Sample]:
        groups = samples(
            connection,
            reader,
            tenants=tenants,
            rows=settings.repair.probe,
            provider=settings.provider,
            counter=token_counter(reader.target.model, self.environment),
        )
        return [sample for group in groups for sample in group]

    def _announce(self, settings: Settings, probes: list[_Probe]) -> None:
        requests = tokens = 0
        for one in probes:
            most, of_looks = most_of_second_look([one.sample], settings.provider)
            # The search for parts, and a look at its end.
            requests += 1 + (LOOKS + 1) * most + -(-MOST_TEXTS // settings.provider.batch_size)
            tokens += one.sample.tokens + (LOOKS + 1) * of_looks
            tokens += MOST_TEXTS * -(-one.sample.tokens // len(one.sample.texts))
        price = tokens * settings.provider.price_per_million_tokens / 1_000_000
        entries = plural(len(probes), "entry", "entries")
        self.say(
            f"probing the text of {entries}: at most {requests:,} requests, about {tokens:,} tokens"
            f" ({dollars(price)}), and fewer where the first rows agree"
        )

    def _probe(
        self,
        connection: Connection,
        settings: Settings,
        keys: KeyRing,
        budget: Budget,
        limits: RateLimits,
        one: _Probe,
    ) -> ProbeResult | str:
        """What became of it, or why nothing did."""
        # Where it is a pattern's, another of its tables may have changed it.
        proposed = one.entry.lines[_text_of(one.entry)].value
        own_reader = _with_text(one.reader, str(proposed))
        sampled = self._samples(connection, settings, own_reader, [one.sample.tenant])
        counter = token_counter(one.target.model, self.environment)
        embedders = Embedders(
            endpoint_of(settings, self.environment, one.target),
            keys,
            provider_at=provider_at,
            stop=threading.Event(),
            limits=limits,
            counter=counter,
            models={},
        )

        def again(result: ProbeResult) -> ProbeResult:
            look = SecondLook(
                connection=connection,
                reader=own_reader,
                embedders=embedders,
                budget=budget,
                provider=settings.provider,
                counter=counter,
                before_request=lambda: None,
                meanwhile=lambda: None,
                spent=lambda *_: None,
            )
            first = found = look.of(result)
            for _ in range(LOOKS - 1):
                if found.better is None or found.better.low >= result.least:
                    break
                better = found.better
                look.reader = _with_text(own_reader, better.variant.expression)
                found = look.of(replace(result, cosines=(better.low, better.high)))
                # Its noise may explain what the variant lacks.
                least = found.least if found.agrees else first.least
                found = replace(first, better=found.better or better, least=least)
            if found.better is not None and found.better.low >= found.least:
                return found
            look.reader = own_reader
            search = PartSearch(look=look, tenant=result.tenant, least=result.least)
            parts = search.best()
            if parts is not None:
                look.reader = _with_text(own_reader, parts.variant.expression)
                looked = look.of(replace(result, cosines=(parts.low, parts.high)))
                if looked.agrees:
                    return replace(first, better=parts, least=looked.least)
            return found

        try:
            probed = probe(
                [sampled],
                embedders,
                budget=budget,
                concurrency=1,
                least=settings.repair.probe_min_cosine,
                before_request=lambda: None,
                meanwhile=lambda _: None,
                again=again,
                answered=lambda _: None,
                late=None,
            )
        finally:
            embedders.close()
        return probed.results[0] if probed.results else probed.stopped or "no answer"


def _tenants(connection: Connection, target: Target, most: int | None) -> list[str | None]:
    """The tenants of all rows of a table, or of so many at most; first whose rows have most parts.

    What one tenant's metadata lack, another's vectors may hold.
    """
    statement = sql.SQL(
        "SELECT tenant FROM (SELECT tenant, text_parts FROM {} AS r LIMIT {}) AS seen"
        " GROUP BY tenant ORDER BY pg_catalog.max(text_parts) DESC, tenant"
    ).format(rows_of(target), sql.Literal(most))
    return [tenant for (tenant,) in connection.execute(statement)]


def _with_text(reader: RowReader, expression: str) -> RowReader:
    declared = reader.target.declared.model_copy(update={"text": expression})
    return replace(reader, target=replace(reader.target, declared=declared))


def _text_of(entry: Entry) -> int:
    return next(i for i, line in enumerate(entry.lines) if line.key == "text")


def _own_entry(one: _Probe) -> Entry:
    """For a pattern's table that has another text: its exact name wins over the pattern."""
    target = one.target
    tenant = sql.Literal(target.tenant_part).as_string(None)
    relation = display_name(target.facts.schema, target.facts.name)
    own = {
        "name": Line(key="name", value=relation, reason="one of a pattern's, with another text"),
        "tenant_from": Line(key="tenant", value=tenant, reason="as the pattern's table has it"),
    }
    lines = [own.get(line.key, line) for line in one.entry.lines]
    return replace(one.entry, lines=lines, remarks=[])


def _remark(entry: Entry, reason: str) -> None:
    entry.remarks.append(f"Its text was not probed: {reason}")


def _learn(entry: Entry, result: ProbeResult) -> None:
    """Say beside the text what the stored vectors say, and take the text that agrees with them."""
    position = _text_of(entry)
    guess, better = entry.lines[position], result.better
    if result.unanswered is not None:
        _remark(entry, result.unanswered)
    elif better is not None and better.low >= result.least:
        entry.lines[position] = Line(
            key="text",
            value=better.variant.expression,
            reason=f"{better.variant.words}: healthy rows, embedded again, agree ({better.low:.6f}"
            f" to {better.high:.6f})",
        )
    elif result.agrees:
        reason = f"{guess.reason}; healthy rows, embedded again, agree ({result.numbers})"
        entry.lines[position] = replace(guess, reason=reason)
    else:
        entry.remarks.append(
            "The text does not agree with all vectors that are stored, and no common variant does;"
            f" or their model is another one: {result.numbers}"
        )
