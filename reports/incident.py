"""Defines the values of an incident: everything its report shows, in types that survive JSON.

Holds no secret, as every free text passes the redactor when a value is built, and no text of any
row but with --show-texts.
"""

from __future__ import annotations

from datetime import UTC
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    StringConstraints,
)

from remediation.provider.usage import Usage
from reports.tables import Count, Part, RowTime, TableReport, Text

UtcTime = Annotated[AwareDatetime, AfterValidator(lambda time: time.astimezone(UTC))]
RunId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""A run's id names its folder, so it can hold neither a slash nor a leading dot."""
SAMPLE_KEYS = 5


class Result(StrEnum):
    """How the run ended."""

    WHOLE = "whole"
    PARTLY = "partly"
    STOPPED = "stopped"
    NOTHING_REPAIRED = "nothing_repaired"
    ROLLED_BACK = "rolled_back"
    INTERRUPTED = "interrupted"
    NOT_EXAMINED = "not_examined"


class ExitStatus(Part):
    code: int
    meaning: Text


class Database(Part):
    """Where the run read; `same_write_side` is False when repairs went through another server."""

    host: Text
    port: int | None = None
    name: Text
    role: Text
    server_version: Text
    pgvector_version: Text | None = None
    same_write_side: bool = True


class Provider(Part):
    """The declared embedding endpoint. The price is in dollars per million tokens."""

    base_url: Text
    model: Text
    dimensions: int | None = None
    price_per_million_tokens: NonNegativeFloat | None = None


class Versions(Part):
    python: Text
    packages: dict[Text, Text] = Field(default_factory=dict)


class Line(Part):
    """Where a line of the report belongs; `whole_table`: to the table, not to a tenant of it."""

    table: Text
    tenant: Text | None = None
    whole_table: bool = False


class Finding(Line):
    """A check that fails; a table check has neither `failing` nor `rows`."""

    check: Text
    severity: Literal["error", "warning"] = "error"
    message: Text
    failing: NonNegativeInt | None = None
    rows: NonNegativeInt | None = None
    since: RowTime | None = None
    until: RowTime | None = None
    sql: Text | None = None


class PlanLine(Line):
    rows: NonNegativeInt
    requests: NonNegativeInt
    tokens: NonNegativeInt
    dollars: NonNegativeFloat | None = None


class Plan(Part):
    """What the repair set out to do. `requests` are batches of texts; probes are counted apart."""

    rows: NonNegativeInt
    requests: NonNegativeInt
    probe_requests: NonNegativeInt = 0
    tokens: NonNegativeInt
    tokens_exact: bool
    dollars: NonNegativeFloat | None = None
    seconds: NonNegativeFloat | None = None
    max_rows: NonNegativeInt | None = None
    max_dollars: NonNegativeFloat | None = None
    lines: tuple[PlanLine, ...] = ()


class Outcomes(Line):
    """How many rows of a segment came to which outcome."""

    fixed: NonNegativeInt = 0
    superseded: NonNegativeInt = 0
    quarantined: NonNegativeInt = 0
    failed: NonNegativeInt = 0
    skipped: NonNegativeInt = 0
    restored: NonNegativeInt = 0
    """Of a rollback: rows that are again as they were."""


class Problem(Line):
    """Rows of a segment that were not fixed for one reason, with a few of their keys."""

    outcome: Literal["superseded", "quarantined", "failed", "skipped"]
    reason: Text
    rows: NonNegativeInt
    sample_keys: Annotated[tuple[Text, ...], Field(max_length=SAMPLE_KEYS)] = ()
    texts: dict[Text, Text] = Field(default_factory=dict)
    """How the texts of some of these rows begin, by key; empty but with --show-texts."""


class Probe(Line):
    """Cosines of healthy rows embedded once more against what is stored; under `least`: refused."""

    model: Text
    cosines: tuple[float, ...]
    least: float

    @property
    def refused(self) -> bool:
        # Written so that a NaN refuses.
        return not all(cosine >= self.least for cosine in self.cosines)


class Repair(Part):
    outcomes: tuple[Outcomes, ...] = ()
    requests: NonNegativeInt = 0
    requests_unanswered: NonNegativeInt = 0
    """Of the requests, those without a usable answer."""
    tokens: NonNegativeInt = 0
    """Billed, by what the provider's answers said."""
    tokens_unsaid: NonNegativeInt = 0
    """By our own count, of answers that did not say how many were billed."""
    dollars: NonNegativeFloat | None = None
    """Of both."""
    seconds: NonNegativeFloat = 0.0
    problems: tuple[Problem, ...] = ()
    probes: tuple[Probe, ...] = ()

    @property
    def usage(self) -> Usage:
        """What the requests took."""
        return Usage(
            requests=self.requests,
            unanswered=self.requests_unanswered,
            tokens=self.tokens,
            unsaid=self.tokens_unsaid,
        )

    @property
    def totals(self) -> Outcomes:
        """The outcomes of every segment together; its table is empty."""
        names = ("fixed", "superseded", "quarantined", "failed", "skipped", "restored")
        return Outcomes(
            table="",
            whole_table=True,
            **{name: sum(getattr(one, name) for one in self.outcomes) for name in names},
        )


class Left(Line):
    """What still fails, why, and what to do next."""

    check: Text
    rows: NonNegativeInt | None = None
    why: Text
    next_step: Text


class Event(Part):
    time: UtcTime
    text: Text


class Incident(Part):
    """A run with findings, its repair, and what is left."""

    schema_version: Literal[1] = 1
    run_id: RunId
    started_at: UtcTime
    finished_at: UtcTime
    command: tuple[Text, ...]
    mode: Literal["repair", "rollback"]
    rolls_back: RunId | None = None
    """The run that was rolled back."""
    result: Result
    exit_status: ExitStatus
    headline: Text
    interruption: Text | None = None
    settings_file: Text | None = None
    database: Database | None = None
    provider: Provider | None = None
    versions: Versions
    tables: tuple[TableReport, ...] = ()
    absent: tuple[Text, ...] = ()
    """Declared tables that need not exist, and do not."""
    findings_before: tuple[Finding, ...] = ()
    findings_after: tuple[Finding, ...] | None = None
    plan: Plan | None = None
    repair: Repair | None = None
    left: tuple[Left, ...] = ()
    timeline: tuple[Event, ...] = ()

    def cleaned(self) -> Incident:
        """The same incident without secrets that were registered after it was built."""
        return Incident.model_validate(self.model_dump())

    @property
    def seconds(self) -> float:
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def unexamined(self) -> tuple[TableReport, ...]:
        return tuple(table for table in self.tables if not table.examined)

    @property
    def affected_tables(self) -> tuple[TableReport, ...]:
        """The tables with failing rows, the worst first."""
        hit = [table for table in self.tables if table.affected]
        return tuple(sorted(hit, key=lambda one: (-one.failing_before.rows, one.name)))

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)

    @property
    def failing_before(self) -> Count:
        return sum((table.failing_before for table in self.tables), Count(rows=0))

    @property
    def failing_now(self) -> Count:
        return sum((table.failing_now for table in self.tables), Count(rows=0))

    @property
    def unproven(self) -> bool:
        """A repair wrote, yet no table was examined after it: what still fails is not known."""
        if self.repair is None or any(table.re_examined for table in self.tables):
            return False
        totals = self.repair.totals
        wrote = totals.fixed + totals.restored > 0 or self.result is Result.INTERRUPTED
        return wrote and bool(self.affected_tables)

    @property
    def share(self) -> float:
        """The affected share of all rows, 0 to 1."""
        return self.failing_before.rows / self.rows if self.rows else 0.0

    @property
    def tenants(self) -> int:
        """Tenants over all tables; where healthy segments are left out, of the largest table."""
        tenanted = [table for table in self.tables if table.tenant is not None]
        named = {segment.tenant for table in tenanted for segment in table.segments}
        return max([len(named), *(table.segments_total for table in tenanted)])

    @property
    def affected_tenants(self) -> dict[str | None, Count]:
        """Rows that failed before the repair, by tenant over all tables, the worst first."""
        counts: dict[str | None, Count] = {}
        for table in self.tables:
            for segment in table.affected if table.tenant is not None else ():
                count = counts.get(segment.tenant, Count(rows=0))
                counts[segment.tenant] = count + segment.failing_before
        return dict(sorted(counts.items(), key=lambda item: -item[1].rows))

    @property
    def by_check(self) -> dict[str, int]:
        """Rows that failed before the repair, by check; a row that fails two is in both."""
        counts: dict[str, int] = {}
        for table in self.tables:
            for segment in table.segments:
                for check, failing in segment.before.items():
                    counts[check] = counts.get(check, 0) + failing
        return {check: count for check, count in counts.items() if count}
