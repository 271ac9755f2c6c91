"""Defines the values of an incident: everything its report shows, in types that survive JSON.

Holds no secret, because every free text passes the redactor when a value is built, and no text of
a row without --show-texts.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, StringConstraints, WithJsonSchema

from remediation.provider.usage import Usage
from reports.values.diagnosed import ReportedDiagnosis
from reports.values.tables import RedactedText, ReportValue, RowCount, RowTime, TableReport, UtcTime
from reports.values.trend import Trend

RunId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""A run's id names its folder, so it can hold neither a slash nor a leading dot."""
Mode = Literal["check", "dry run", "repair", "rollback"]
Cosine = Annotated[
    float,
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}),
]
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
    OPEN = "open"
    """Something fails, and nothing was to be repaired: a run of the checks, or a dry run."""


class ExitSummary(ReportValue):
    code: int
    meaning: RedactedText


class DatabaseSummary(ReportValue):
    """Where the run read; `same_write_side` is False when repairs went through another server."""

    host: RedactedText
    port: int | None = None
    name: RedactedText
    role: RedactedText
    server_version: RedactedText
    pgvector_version: RedactedText | None = None
    same_write_side: bool = True


class ProviderSummary(ReportValue):
    """The declared embedding endpoint. The price is in dollars per million tokens."""

    base_url: RedactedText
    model: RedactedText
    dimensions: int | None = None
    price_per_million_tokens: NonNegativeFloat | None = None


class Versions(ReportValue):
    python: RedactedText
    packages: dict[RedactedText, RedactedText] = Field(default_factory=dict)


class ScopedValue(ReportValue):
    """What is said of one tenant's rows in a table, or with `whole_table` of the table itself."""

    table: RedactedText
    tenant: RedactedText | None = None
    whole_table: bool = False


class ReportedFinding(ScopedValue):
    """A check that fails; a table check has neither `failing` nor `rows`."""

    check: RedactedText
    severity: Literal["error", "warning"] = "error"
    message: RedactedText
    failing: NonNegativeInt | None = None
    rows: NonNegativeInt | None = None
    uncounted: RedactedText | None = None
    """How sure `rows` is where they were not counted."""
    since: RowTime | None = None
    until: RowTime | None = None
    sql: RedactedText | None = None


class PlannedSegment(ScopedValue):
    rows: NonNegativeInt
    requests: NonNegativeInt
    tokens: NonNegativeInt
    dollars: NonNegativeFloat | None = None


class PlanSummary(ReportValue):
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
    lines: tuple[PlannedSegment, ...] = ()


class OutcomeCounts(ScopedValue):
    """How many rows of a segment came to which outcome."""

    fixed: NonNegativeInt = 0
    superseded: NonNegativeInt = 0
    quarantined: NonNegativeInt = 0
    failed: NonNegativeInt = 0
    skipped: NonNegativeInt = 0
    restored: NonNegativeInt = 0
    """In a rollback: rows that are again as they were."""


class UnfixedRows(ScopedValue):
    """Rows of a segment that were not fixed for one reason, with a few of their keys."""

    outcome: Literal["superseded", "quarantined", "failed", "skipped"]
    reason: RedactedText
    rows: NonNegativeInt
    sample_keys: Annotated[tuple[RedactedText, ...], Field(max_length=SAMPLE_KEYS)] = ()
    texts: dict[RedactedText, RedactedText] = Field(default_factory=dict)
    """How the texts of some of these rows begin, by key; empty without --show-texts."""


class ProbeSummary(ScopedValue):
    """Cosines of healthy rows, embedded again, to their stored vectors; below `least`: refused."""

    model: RedactedText
    cosines: tuple[Cosine, ...]
    least: float

    @property
    def refused(self) -> bool:
        # Written so that a NaN refuses.
        return not all(cosine >= self.least for cosine in self.cosines)


class ReportedUsage(ReportValue):
    """What was asked of the provider."""

    requests: NonNegativeInt = 0
    requests_unanswered: NonNegativeInt = 0
    """Requests without a usable answer; `requests` includes them."""
    tokens: NonNegativeInt = 0
    """Tokens that the provider's answers said were billed."""
    tokens_unsaid: NonNegativeInt = 0
    """Tokens, by our own count, of answers that did not say how many were billed."""
    dollars: NonNegativeFloat | None = None
    """The price of both counts of tokens."""

    @property
    def usage(self) -> Usage:
        """What the requests took."""
        return Usage(
            requests=self.requests,
            unanswered=self.requests_unanswered,
            tokens=self.tokens,
            unsaid=self.tokens_unsaid,
        )


class RepairSummary(ReportedUsage):
    """What a repair or a rollback did; the usage is without that of the canary."""

    outcomes: tuple[OutcomeCounts, ...] = ()
    not_begun: NonNegativeInt = 0
    """Rows of the plan that were not even read before the repair ended early."""
    seconds: NonNegativeFloat = 0.0
    problems: tuple[UnfixedRows, ...] = ()
    probes: tuple[ProbeSummary, ...] = ()

    @property
    def totals(self) -> OutcomeCounts:
        """The outcomes of every segment together; its table is empty."""
        names = ("fixed", "superseded", "quarantined", "failed", "skipped", "restored")
        return OutcomeCounts(
            table="",
            whole_table=True,
            **{name: sum(getattr(one, name) for one in self.outcomes) for name in names},
        )


class LeftFinding(ScopedValue):
    """What still fails, why, and what to do next."""

    check: RedactedText
    rows: NonNegativeInt | None = None
    why: RedactedText
    next_step: RedactedText
    commands: tuple[RedactedText, ...] = ()
    """The commands that the next step names, in full."""


class TimelineEvent(ReportValue):
    time: UtcTime
    text: RedactedText


class Incident(ReportValue):
    """A run with findings, its repair, and what is left."""

    schema_version: Literal[1] = 1
    run_id: RunId
    started_at: UtcTime
    finished_at: UtcTime
    command: tuple[RedactedText, ...]
    mode: Mode
    rolls_back: RunId | None = None
    """The run that was rolled back."""
    result: Result
    exit_status: ExitSummary
    headline: RedactedText
    interruption: RedactedText | None = None
    settings_file: RedactedText | None = None
    settings: dict[RedactedText, RedactedText] = Field(default_factory=dict)
    """Each setting by its name, as JSON; what may hold a secret is not shown."""
    database: DatabaseSummary | None = None
    provider: ProviderSummary | None = None
    versions: Versions
    tables: tuple[TableReport, ...] = ()
    absent: tuple[RedactedText, ...] = ()
    """Declared tables that are not there and need not be."""
    findings_before: tuple[ReportedFinding, ...] = ()
    findings_after: tuple[ReportedFinding, ...] | None = None
    plan: PlanSummary | None = None
    repair: RepairSummary | None = None
    canary: ReportedUsage | None = None
    """What --canary asked of the provider; None without it."""
    left: tuple[LeftFinding, ...] = ()
    diagnosis: ReportedDiagnosis | None = None
    """What failing rows had in common before the repair."""
    trend: Trend | None = None
    """What earlier runs measured; None where no history is kept."""
    timeline: tuple[TimelineEvent, ...] = ()

    def cleaned(self) -> Incident:
        """The same incident without secrets that were registered after it was built.

        Values are cleaned, not finished texts: a password such as `table` must not break a page.
        """
        return Incident.model_validate(self.model_dump())

    @property
    def seconds(self) -> float:
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def unexamined(self) -> tuple[TableReport, ...]:
        return tuple(table for table in self.tables if not table.examined)

    @cached_property
    def affected_tables(self) -> tuple[TableReport, ...]:
        """The tables with failing rows, the worst first."""
        hit = [table for table in self.tables if table.affected]
        return tuple(sorted(hit, key=lambda one: (-one.failing_before.rows, one.name)))

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)

    @property
    def estimated(self) -> bool:
        """Whether `rows` is an estimate."""
        return any(table.estimated for table in self.tables)

    @cached_property
    def failing_before(self) -> RowCount:
        return sum((table.failing_before for table in self.tables), RowCount(rows=0))

    @cached_property
    def failing_now(self) -> RowCount:
        return sum((table.failing_now for table in self.tables), RowCount(rows=0))

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

    @cached_property
    def tenants(self) -> int:
        """Tenants over all tables; where healthy segments are left out, of the largest table."""
        tenanted = [table for table in self.tables if table.tenant is not None]
        named = {segment.tenant for table in tenanted for segment in table.segments}
        return max([len(named), *(table.segments_total for table in tenanted)])

    @cached_property
    def affected_tenants(self) -> dict[str | None, RowCount]:
        """Rows that failed before the repair, by tenant over all tables, the worst first."""
        counts: dict[str | None, RowCount] = {}
        for table in self.tables:
            for segment in table.affected if table.tenant is not None else ():
                count = counts.get(segment.tenant, RowCount(rows=0))
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
