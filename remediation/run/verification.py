"""Measures written tables again, where they were written, and hands the result to the checks.

A replica may lag behind what was just written, and would prove nothing. Of a large table the
vectors of those rows alone are read again that the repair selected. Reads only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checks.database.connection import connect
from checks.examination.measuring import examine_targets
from checks.scanning.keyed_part import KeyedPart

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from checks.database.connection import ConnectionTarget
    from checks.examination.examination import Examination
    from checks.examination.run_context import RunContext
    from checks.examination.table_examination import TableExamination
    from checks.settings.integrity_toml import Settings
    from remediation.run.repair_run import RepairRun
    from remediation.selection.row_reader import RowReader

LARGE_ROWS = 100_000
"""From so many rows on; the vectors of fewer are read in a second (docs/performance.md)."""
FEWER = 4
"""A row that is found by its key costs as much as four of a scan: the selected ones must be fewer
than the rows by this factor."""


def keyed_part(first: TableExamination, reader: RowReader) -> KeyedPart | None:
    """The rows whose vectors are read again, and the checks that look at no others.

    None where all rows are looked at by every check. A row that was not selected did not fail when
    the repair searched the table, or when it was first measured; nobody but others wrote it since.
    That is no knowledge where failing rows are accepted, and so were not selected, and none where a
    set of rows failed: whether it still does, all its rows tell.
    """
    selected = reader.selected
    if not (selected.complete and first.part.whole):
        return None
    if first.rows < max(LARGE_ROWS, FEWER * len(selected)):
        return None
    searched = {check.name for check in reader.checks if check.rule_of_sets is None}
    accepted = {name for name, _ in first.accepted}
    checks = frozenset(
        check.name
        for check in first.checks
        if check.reads_vectors
        and first.part.proves(check.name)
        and check.name not in accepted
        and (check.name in searched or first.failing(check.name) == 0)
    )
    return KeyedPart(pages=selected.pages, checks=checks) if checks else None


def part_words(table: TableExamination, part: KeyedPart, reader: RowReader) -> str:
    """What was looked at, in words."""
    return (
        f"second pass of {table.target.name}: every row was counted again, and"
        f" {' and '.join(sorted(part.checks))} looked at the {len(reader.selected):,} rows that the"
        f" repair selected; the vectors of the others were read in the first pass"
    )


def measure_again(
    examination: Examination,
    tables: AbstractSet[str],
    place: ConnectionTarget,
    settings: Settings,
    *,
    tenants: tuple[str, ...] | None,
    keyed: Mapping[str, KeyedPart] | None = None,
) -> Examination:
    """The examination with some of its tables as they are now. Raises `CannotExamineError`.

    A table that failed a check about sets may fail it no more for what was written to a sibling.
    """
    together = {
        table.target.name
        for table in examination.tables
        if not tables.isdisjoint(sibling.name for sibling in table.target.siblings)
        and any(table.failing(c.name) for c in table.checks if c.rule_of_sets is not None)
    }
    with connect(place) as connection:
        again = examine_targets(
            connection,
            place,
            [t.target for t in examination.tables if t.target.name in tables | together],
            timeout=settings.database.statement_timeout,
            tenants=tenants,
            today=examination.today,
            side_by_side=settings.database.scan_concurrency,
            keyed=keyed,
        )
    return examination.updated(again)


def take_in(
    context: RunContext, run: RepairRun, examination: Examination, place: ConnectionTarget
) -> None:
    """Have the checks judge this examination, measured through `place`, from now on."""
    context.examination = examination
    context.measured_through = place
    run.measured_again = bool(run.results)
    known = {m.segment for table in context.before.tables for m in table.measurements}
    run.new_findings = tuple(
        finding
        for table in context.examination.tables
        for verdict in table.verdicts
        if not verdict.holds and verdict.severity == "error" and verdict.segment not in known
        if (finding := table.finding(verdict)).accepted is None
    )
