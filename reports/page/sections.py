"""Groups, sorts and cuts what each section of the report shows of an incident.

Counts whatever it cuts, so that the page can say what it leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from markupsafe import Markup

from reports.page import wording

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from reports.values.incident import (
        Incident,
        LeftFinding,
        ReportedFinding,
        ScopedValue,
        UnfixedRows,
    )
    from reports.values.tables import SegmentCounts, TableReport

TENANTS_PER_TABLE = 12
TENANTS_ON_PAGE = 60
TABLES_IN_DETAIL = 20
LINES = 50
GROUPS = 20
STATEMENTS = 2
TABLES_DIAGNOSED = 5
TABLES_TIMED = 20
NAMED = 5
SHORT_NAME = 80

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown(Generic[Item]):
    """The first items of a longer list, and how many are left out."""

    items: tuple[Item, ...]
    left_out: int


def take(items: Sequence[Item], most: int = LINES) -> Shown[Item]:
    """The first `most` items."""
    return Shown(items=tuple(items[:most]), left_out=max(0, len(items) - most))


@dataclass(frozen=True, kw_only=True, slots=True)
class TableBlast:
    """A table with failing rows; `worst` is the largest failing count, the full width of a bar."""

    table: TableReport
    segments: Shown[SegmentCounts]
    worst: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Blast:
    """The blast radius: every table in short, the affected ones in detail."""

    overview: Shown[TableReport]
    details: Shown[TableBlast]
    worst: int


def blast_radius(incident: Incident) -> Blast:
    """Tables and tenants by failing rows; the tenants shown are capped over the whole page."""
    affected = incident.affected_tables
    unharmed = [table for table in incident.tables if not table.affected]
    unharmed.sort(key=lambda table: (table.examined, table.name))
    details = []
    budget = TENANTS_ON_PAGE
    for table in affected[:TABLES_IN_DETAIL]:
        # Every table in detail shows at least its worst tenant.
        segments = take(table.affected, max(1, min(TENANTS_PER_TABLE, budget)))
        budget -= len(segments.items)
        worst = max(_extent(segment) for segment in table.affected)
        details.append(TableBlast(table=table, segments=segments, worst=worst))
    return Blast(
        overview=take((*affected, *unharmed)),
        details=Shown(items=tuple(details), left_out=len(affected) - len(details)),
        worst=max(
            (max(table.failing_before.rows, table.failing_now.rows) for table in affected),
            default=0,
        ),
    )


def _extent(segment: SegmentCounts) -> int:
    return max(segment.failing_before.rows, segment.failing_now.rows)


@dataclass(frozen=True, kw_only=True, slots=True)
class FindingGroup:
    """The findings of one check in one table, the worst first, with their statements once each."""

    check: str
    table: str
    severity: str
    failing: int
    findings: Shown[ReportedFinding]
    statements: Shown[str]

    @property
    def whole_table(self) -> bool:
        return all(finding.whole_table for finding in self.findings.items)


def groups(findings: Iterable[ReportedFinding]) -> Shown[FindingGroup]:
    """Findings by table and check: errors before warnings, many failing rows before few."""
    gathered: dict[Hashable, list[ReportedFinding]] = {}
    for finding in findings:
        # A finding about the whole table has no rows to add to those of its tenants.
        key = (finding.table, finding.check, finding.severity, finding.whole_table)
        gathered.setdefault(key, []).append(finding)
    made = []
    for alike in gathered.values():
        alike.sort(key=lambda finding: -(finding.failing or 0))
        statements = list(dict.fromkeys(finding.sql for finding in alike if finding.sql))
        made.append(
            FindingGroup(
                check=alike[0].check,
                table=alike[0].table,
                severity=alike[0].severity,
                failing=sum(finding.failing or 0 for finding in alike),
                findings=take(alike, TENANTS_PER_TABLE),
                statements=take(statements, STATEMENTS),
            )
        )
    made.sort(key=lambda group: (group.severity != "error", -group.failing))
    return take(made, GROUPS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Alike(Generic[Item]):
    """Lines that differ by their tenant alone, as one: `rows` None where none has a count."""

    first: Item
    rows: int | None
    scopes: Shown[Item]


def left(incident: Incident) -> Shown[tuple[Alike[LeftFinding], ...]]:
    """What is left of each check; those of one table, reason and next step are one point."""
    shown = _alike(incident.left, lambda line: (line.table, line.check, line.why, line.next_step))
    points: dict[Hashable, list[Alike[LeftFinding]]] = {}
    for group in shown.items:
        line = group.first
        points.setdefault((line.table, line.why, line.next_step), []).append(group)
    return Shown(items=tuple(map(tuple, points.values())), left_out=shown.left_out)


def problems(incident: Incident) -> Shown[Alike[UnfixedRows]]:
    """The rows that were not fixed, by table, outcome and reason."""
    unfixed = incident.repair.problems if incident.repair is not None else ()
    return _alike(unfixed, lambda line: (line.table, line.outcome, line.reason))


Counted = TypeVar("Counted", "LeftFinding", "UnfixedRows")


def _alike(lines: Iterable[Counted], key: Callable[[Counted], Hashable]) -> Shown[Alike[Counted]]:
    gathered: dict[Hashable, list[Counted]] = {}
    for line in lines:
        gathered.setdefault(key(line), []).append(line)
    made = []
    for alike in gathered.values():
        alike.sort(key=lambda line: -(line.rows or 0))
        counted = [line.rows for line in alike if line.rows is not None]
        made.append(
            Alike(
                first=alike[0],
                rows=sum(counted) if counted else None,
                scopes=take(alike, NAMED),
            )
        )
    made.sort(key=lambda group: -(group.rows or 0))
    return take(made, GROUPS)


def scopes(incident: Incident) -> Callable[[ScopedValue], Markup]:
    """Names what a line is about: a tenant, or the whole table where it declares no tenant."""
    untenanted = {table.name for table in incident.tables if table.tenant is None}

    def scope(line: ScopedValue) -> Markup:
        if line.whole_table or (line.tenant is None and line.table in untenanted):
            return Markup('<em class="special">(whole table)</em>')
        # The affected tenants show the full name; here a long one would bury the figures.
        return wording.tenant(line.tenant, SHORT_NAME)

    return scope


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """One check in one table: failing rows before, and after where it was measured again."""

    table: str
    check: str
    before: int
    after: int | None


def compared(incident: Incident) -> Shown[Compared]:
    """Every check that rows failed before or after, by table; the worst first."""
    lines = []
    for table in incident.tables:
        checks = dict.fromkeys(check for segment in table.segments for check in segment.before)
        for check in checks:
            before = sum(segment.before.get(check, 0) for segment in table.segments)
            after = sum((segment.after or {}).get(check, 0) for segment in table.segments)
            if before or after:
                again = after if table.re_examined else None
                lines.append(Compared(table=table.name, check=check, before=before, after=again))
    lines.sort(key=lambda line: -max(line.before, line.after or 0))
    return take(lines, GROUPS)


def coverages(incident: Incident) -> list[tuple[str, float, float | None]]:
    """The share of whole rows of each affected tenant over all tables, before and after.

    The most failing rows first; after is None where nothing was measured again.
    """
    rows: dict[str | None, list[int]] = {}
    again = False
    for table in incident.tables if not incident.unproven else ():
        for segment in table.affected if table.tenant is not None else ():
            sums = rows.setdefault(segment.tenant, [0, 0, 0])
            counts = (segment.rows, segment.failing_before.rows, segment.failing_now.rows)
            again = again or segment.after is not None
            for place, count in enumerate(counts):
                sums[place] += count
    worst = sorted(rows.items(), key=lambda item: -item[1][1])
    return [
        ("(no tenant)" if tenant is None else tenant, 1 - was / total, 1 - now / total)
        if again
        else ("(no tenant)" if tenant is None else tenant, 1 - was / total, None)
        for tenant, (total, was, now) in worst
        if total
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What the statements over a table took, in seconds; `diagnosis` None: it had none."""

    table: str
    scan: float
    diagnosis: float | None
    statement: str | None
    """Of the scan, where it is known."""

    @property
    def seconds(self) -> float:
        return self.scan + (self.diagnosis or 0.0)


def timings(incident: Incident) -> Shown[Timing]:
    """The tables that were scanned, those that took longest first."""
    diagnosed = (
        {one.table: one.seconds for one in incident.diagnosis.tables}
        if (incident.diagnosis)
        else {}
    )
    timed = [
        Timing(
            table=table.name,
            scan=table.scan_seconds,
            diagnosis=diagnosed.get(table.name),
            statement=table.scan_sql,
        )
        for table in incident.tables
        if table.scan_seconds
    ]
    return take(sorted(timed, key=lambda one: -one.seconds), TABLES_TIMED)
