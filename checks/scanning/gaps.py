"""Finds gaps beside a table: source rows without a chunk, store rows without their table row.

Such rows have no tenant, so their findings are about the whole table; nothing repairs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from psycopg import sql

from checks.expectations.measurements import Segment, Threshold
from checks.expectations.suites import Asked, Counts, entry_of
from checks.findings.finding import Finding
from checks.targets.store_rows import held_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from checks.database.catalog import Column
    from checks.database.connection import Connection
    from checks.expectations.measurements import Verdict
    from checks.settings.names import TableName
    from checks.settings.tables import Table
    from checks.targets.target import Target

GapCheck = Literal["completeness", "orphans"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """How many rows of the table beside a target have no counterpart in it."""

    check: GapCheck
    beside: str
    """The store or the source, by the name that people know."""
    rows: int
    failing: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Side:
    """One direction of the search: rows of `beside` that no row of the target matches."""

    check: GapCheck
    name: str
    beside: sql.Composable
    key: Sequence[str]
    columns: Mapping[str, Column]
    own_key: Sequence[str]


def declared_gaps(declared: Table) -> tuple[tuple[GapCheck, str], ...]:
    """The checks for gaps that a declaration calls for, each with the table beside it."""
    gaps: list[tuple[GapCheck, str]] = []
    if declared.source is not None and not _shared_by_pattern(declared, declared.source.name):
        gaps.append(("completeness", str(declared.source.name)))
    if declared.store is not None and not _shared_by_pattern(declared, declared.store.name):
        gaps.append(("orphans", str(declared.store.name)))
    return tuple(
        (check, beside) for check, beside in gaps if declared.check_settings(check).enabled
    )


def gaps_of(target: Target) -> tuple[tuple[GapCheck, str], ...]:
    """The same of a target, each with the name of the table beside it that people know."""
    return tuple((side.check, side.name) for side in _sides(target))


def count_gaps(connection: Connection, target: Target) -> tuple[Gap, ...]:
    """Every gap of a target, in the caller's transaction, tenants set aside. Raises psycopg's."""
    return tuple(_count(connection, target, side) for side in _sides(target))


def asked_of_gaps(target: Target, gaps: Sequence[Gap]) -> tuple[Asked, ...]:
    """What the suites are asked of each gap, in their order."""
    asked = []
    for gap in gaps:
        settings = target.declared.check_settings(gap.check)
        threshold = Threshold(
            check=gap.check,
            min=Decimal(1) if settings.min is None else settings.min,
            severity=settings.severity,
            says=f"stand beside the table without a {_lack(gap)} in it",
        )
        # Rows beside a table have no tenant, so they are one segment.
        counts = Counts(
            segment=Segment(table=target.name, tenant=None),
            rows=gap.rows,
            failing={gap.check: gap.failing},
        )
        asked.append(
            Asked(
                table=target.name,
                entry=entry_of(target),
                about=gap.check,
                counts=(counts,),
                thresholds=(threshold,),
                segments_seen=1,
            )
        )
    return tuple(asked)


def gap_findings(
    target: Target, gaps: Sequence[Gap], verdicts: Sequence[Verdict]
) -> tuple[Finding, ...]:
    """A finding for each gap whose verdict, at the same position, does not hold."""
    findings = []
    sides = {side.check: side for side in _sides(target)}
    for gap, verdict in zip(gaps, verdicts, strict=True):
        if verdict.holds:
            continue
        findings.append(
            Finding(
                check=gap.check,
                table=target.name,
                tenant=None,
                whole_table=True,
                severity=verdict.severity,
                says=(
                    f"{gap.failing:,} of {gap.rows:,} rows of {gap.beside} have no {_lack(gap)} in"
                    f" {target.name}"
                ),
                rows=gap.rows,
                failing=gap.failing,
                query=_shown(target, sides[gap.check]),
                beside=gap.beside,
            )
        )
    return tuple(findings)


def _lack(gap: Gap) -> str:
    return "row" if gap.check == "orphans" else "chunk"


def _sides(target: Target) -> list[_Side]:
    wanted = {check for check, _ in declared_gaps(target.declared)}
    sides = []
    if target.source is not None and "completeness" in wanted:
        source = target.source
        sides.append(
            _Side(
                check="completeness",
                name=source.name,
                beside=source.identifier,
                key=source.declared.key,
                columns=source.relation.columns,
                own_key=source.declared.source_key,
            )
        )
    if target.store is not None and "orphans" in wanted and not target.store_is_shared:
        store = target.store
        sides.append(
            _Side(
                check="orphans",
                name=store.name,
                beside=held_rows(store),
                key=store.declared.key,
                columns=store.relation.columns,
                own_key=target.key_names,
            )
        )
    return sides


def _count(connection: Connection, target: Target, side: _Side) -> Gap:
    # Two counts, so that the second is planned as an anti-join.
    statement = sql.SQL(
        "SELECT (SELECT count(*) FROM {beside} AS beside), (SELECT count(*) {unmatched})"
    ).format(beside=side.beside, unmatched=_unmatched(target, side))
    row = connection.execute(statement).fetchone()
    rows, failing = row if row is not None else (0, 0)
    return Gap(check=side.check, beside=side.name, rows=rows, failing=failing)


def _unmatched(target: Target, side: _Side) -> sql.Composed:
    """FROM and WHERE of the rows that nothing matches, a NULL key among them."""
    return sql.SQL(
        "FROM {beside} AS beside\nWHERE NOT EXISTS (SELECT FROM {table} AS own WHERE {same})"
    ).format(
        beside=side.beside,
        table=target.identifier,
        same=sql.SQL(" AND ").join(
            sql.SQL("{} {} {}").format(
                sql.Identifier("own", ours),
                target.facts.columns[ours].operator("=", side.columns[theirs]),
                sql.Identifier("beside", theirs),
            )
            for ours, theirs in zip(side.own_key, side.key, strict=True)
        ),
    )


def _shown(target: Target, side: _Side) -> str:
    columns = sql.SQL(", ").join(sql.Identifier("beside", name) for name in side.key)
    statement = sql.SQL("SELECT {} {};").format(columns, _unmatched(target, side))
    return statement.as_string(None)


def _shared_by_pattern(declared: Table, beside: TableName) -> bool:
    """Whether many tables stand beside this one: a gap in one may be filled by another."""
    return declared.name.is_pattern and not beside.is_pattern
