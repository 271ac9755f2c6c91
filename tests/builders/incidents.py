"""Incidents of every kind for the tests of the report; nothing here reads a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from reports.values.diagnosed import DiagnosedTable, ReportedDiagnosis, ReportedEvidence, TimeCount
from reports.values.incident import (
    DatabaseSummary,
    ExitSummary,
    Incident,
    LeftFinding,
    OutcomeCounts,
    PlannedSegment,
    PlanSummary,
    ProbeSummary,
    ProviderSummary,
    RepairSummary,
    ReportedFinding,
    Result,
    TimelineEvent,
    UnfixedRows,
    Versions,
)
from reports.values.tables import SegmentCounts, TableReport
from reports.values.trend import Fall, Measured, MeasuredRun, Trend

if TYPE_CHECKING:
    from collections.abc import Callable

BEGIN = datetime(2026, 3, 3, 2, 0, tzinfo=UTC)
TABLE = "public.workflow_insights"
HIT: dict[str | None, int] = {"acme": 214, "globex": 97, "initech": 48, "umbrella": 21, "hooli": 2}
HEALTHY = {"stark": 1204, "wayne": 310, "wonka": 12}
HOSTILE = (
    "'; DROP TABLE x; --",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "two\nlines",
    "Ж" * 300,
    "",
    None,
    "evil\u202etxt.exe",
    "bell\x07 and zero\u200bwidth",
    "{{7*7}}",
    "{% raw %}",
    "</style><style>*{display:none}",
    "  edges  ",
    "שלום",
)


def failing_rows(tenant: str | None) -> str:
    return f'SELECT id FROM {TABLE}\nWHERE "tenantId" IS NOT DISTINCT FROM {tenant!r}'


def table_of(hit: dict[str | None, int], *, left: dict[str | None, int] | None) -> TableReport:
    """A table whose tenants fail `completeness`; `left` None: not examined a second time."""
    segments = [
        SegmentCounts(
            tenant=tenant,
            rows=failing * 3 + 100,
            before={"completeness": failing},
            after=None if left is None else {"completeness": left.get(tenant, 0)},
            first=BEGIN - timedelta(days=1),
            last=BEGIN - timedelta(hours=21),
        )
        for tenant, failing in hit.items()
    ]
    segments += [
        SegmentCounts(tenant=tenant, rows=rows, before={"completeness": 0}, not_embeddable=2)
        for tenant, rows in HEALTHY.items()
    ]
    return TableReport(
        name=TABLE,
        rows=sum(segment.rows for segment in segments),
        segments_total=len(segments),
        text="concat_ws(E'\\n\\n', title, body)",
        embedding="embedding",
        tenant='"tenantId"',
        scan_seconds=1.25,
        scan_sql=f"SELECT count(*) FROM {TABLE} WHERE embedding IS NULL",
        segments=tuple(segments),
    )


def incident(
    hit: dict[str | None, int] | None = None, *, dead: tuple[str | None, ...] = ()
) -> Incident:
    """A repaired incident; `dead` names the tenants whose keys were refused."""
    hit = dict(HIT) if hit is None else hit
    left = {tenant: hit[tenant] for tenant in dead}
    total, remaining = sum(hit.values()), sum(left.values())
    findings = {
        tenant: ReportedFinding(
            table=TABLE,
            tenant=tenant,
            check="completeness",
            message=f"{failing} rows have no embedding",
            failing=failing,
            rows=failing * 3 + 100,
            since=BEGIN - timedelta(days=1),
            until=BEGIN - timedelta(hours=21),
            sql=failing_rows(tenant),
        )
        for tenant, failing in hit.items()
    }
    return Incident(
        run_id="20260303-020000-ab12",
        started_at=BEGIN,
        finished_at=BEGIN + timedelta(seconds=83),
        command=("pytest", "--remediate"),
        mode="repair",
        result=Result.PARTLY if left else Result.WHOLE,
        exit_status=ExitSummary(
            code=1 if left else 0,
            meaning="some check does not hold" if left else "every check holds",
        ),
        headline=f"{total - remaining}/{total} rows re-embedded, {remaining} errors",
        settings_file="integrity.toml",
        database=DatabaseSummary(
            host="db.example.com",
            port=5432,
            name="app",
            role="integrity",
            server_version="18.1",
            pgvector_version="0.8.1",
        ),
        provider=ProviderSummary(
            base_url="https://api.openai.com/v1",
            model="text-embedding-3-small",
            dimensions=1536,
            price_per_million_tokens=0.02,
        ),
        versions=Versions(python="3.13.1", packages={"psycopg": "3.3.0", "openai": "3.54.0"}),
        tables=(
            table_of(hit, left=left),
            TableReport(name="public.notes", rows=210, segments_total=1, segments=()),
        ),
        findings_before=tuple(findings.values()),
        findings_after=tuple(findings[tenant] for tenant in left),
        plan=PlanSummary(
            rows=total,
            requests=9,
            probe_requests=5,
            tokens=48_210,
            tokens_exact=True,
            dollars=0.00096,
            seconds=12.5,
            max_rows=100_000,
            max_dollars=25.0,
            lines=tuple(
                PlannedSegment(
                    table=TABLE, tenant=tenant, rows=rows, requests=2, tokens=900, dollars=0.00002
                )
                for tenant, rows in hit.items()
            ),
        ),
        repair=RepairSummary(
            outcomes=tuple(
                OutcomeCounts(table=TABLE, tenant=tenant, failed=rows)
                if tenant in left
                else OutcomeCounts(table=TABLE, tenant=tenant, fixed=rows)
                for tenant, rows in hit.items()
            ),
            requests=14,
            tokens=48_342,
            dollars=0.00097,
            seconds=61.2,
            problems=tuple(
                UnfixedRows(
                    table=TABLE,
                    tenant=tenant,
                    outcome="failed",
                    reason="the provider refused this tenant's key (401)",
                    rows=rows,
                    sample_keys=("17", "18", "21", "34", "55"),
                )
                for tenant, rows in left.items()
            ),
            probes=tuple(
                ProbeSummary(
                    table=TABLE,
                    tenant=tenant,
                    model="text-embedding-3-small",
                    cosines=(0.99998, 1.0, 0.99997),
                    least=0.99,
                )
                for tenant in hit
                if tenant not in left
            ),
        ),
        left=tuple(
            LeftFinding(
                table=TABLE,
                tenant=tenant,
                check="completeness",
                rows=rows,
                why="the provider refused this tenant's key (401)",
                next_step="ask the tenant for a valid key, then run pytest --remediate again",
            )
            for tenant, rows in left.items()
        ),
        diagnosis=diagnosis_of_hit(hit),
        trend=Trend(
            runs=tuple(
                MeasuredRun(
                    run_id=f"night-{day}",
                    at=BEGIN - timedelta(days=4 - day),
                    checks=(
                        Measured(
                            table=TABLE,
                            check="completeness",
                            rows=9_000,
                            failing=failing,
                            holds=not failing,
                        ),
                    ),
                )
                for day, failing in enumerate((0, 0, 0, 214, total))
            ),
            falls=(
                Fall(table=TABLE, check="completeness", now=0.95, lowest=0.97, runs=4, holds=False),
            ),
            last_green=BEGIN - timedelta(days=2),
            first_red=BEGIN - timedelta(days=1),
        ),
        timeline=(
            TimelineEvent(time=BEGIN + timedelta(seconds=4), text="2 tables examined: 5 findings"),
            TimelineEvent(time=BEGIN + timedelta(seconds=66), text="The repair ends"),
        ),
    )


def diagnosis_of_hit(hit: dict[str | None, int]) -> ReportedDiagnosis:
    """Evidence that names every tenant, and the hours of the damage."""
    named = ", ".join(map(repr, hit))[:2_000]
    return ReportedDiagnosis(
        migration="The evidence points both ways: read what speaks for it and what against.",
        tables=(
            DiagnosedTable(
                table=TABLE,
                rows=9_000,
                failing=sum(hit.values()),
                first=BEGIN - timedelta(days=1),
                last=BEGIN - timedelta(hours=21),
                in_window=sum(hit.values()),
                evidence=(
                    ReportedEvidence(topic="tenant", says=f"hit are {named}", migration="against"),
                    ReportedEvidence(topic="written", says="one transaction", migration="for"),
                ),
                keys=tuple(f"({n},{name})" for n, name in zip(range(30), hit, strict=False)),
                unit="hour",
                times=tuple(
                    TimeCount(begins=BEGIN - timedelta(days=1) + timedelta(hours=n), failing=9 + n)
                    for n in range(4)
                ),
            ),
        ),
    )


def interrupted() -> Incident:
    whole = incident()
    return whole.model_copy(
        update={
            "result": Result.INTERRUPTED,
            "exit_status": ExitSummary(code=2, meaning="the run was interrupted"),
            "headline": "The run broke off after 120 of 382 rows",
            "interruption": "the connection to the server was lost\nwhile batch 3 was written",
            "tables": (table_of(dict(HIT), left=None),),
            "findings_after": None,
        }
    )


def not_examined() -> Incident:
    return Incident(
        run_id="nothing",
        started_at=BEGIN,
        finished_at=BEGIN + timedelta(milliseconds=310),
        command=("pytest", "--remediate"),
        mode="repair",
        result=Result.NOT_EXAMINED,
        exit_status=ExitSummary(code=10, meaning="nothing could be examined"),
        headline="The database could not be reached",
        versions=Versions(python="3.13.1"),
        tables=(
            TableReport(name=TABLE, examined=False, error="the server did not answer on port 1"),
        ),
    )


EVERY_KIND: dict[str, Callable[[], Incident]] = {
    "whole": incident,
    "partly": lambda: incident(dead=("globex",)),
    "interrupted": interrupted,
    "not_examined": not_examined,
    "hostile": lambda: incident(
        {tenant: 40 - place for place, tenant in enumerate(HOSTILE)}, dead=(None,)
    ),
    "many": lambda: incident({f"tenant-{place:05}": 1 + place for place in range(10_000)}),
}
