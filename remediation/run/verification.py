"""Measures written tables again, where they were written, and hands the result to the checks.

A replica may lag behind what was just written, and would prove nothing. Reads only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checks.database.connection import connect
from checks.examination.measuring import examine_targets

if TYPE_CHECKING:
    from collections.abc import Collection

    from checks.database.connection import ConnectionTarget
    from checks.examination.examination import Examination
    from checks.examination.run_context import RunContext
    from checks.settings.integrity_toml import Settings
    from remediation.run.repair_run import RepairRun


def measure_again(
    examination: Examination,
    tables: Collection[str],
    place: ConnectionTarget,
    settings: Settings,
    *,
    tenants: tuple[str, ...] | None,
) -> Examination:
    """The examination with some of its tables as they are now. Raises `CannotExamineError`."""
    with connect(place) as connection:
        again = examine_targets(
            connection,
            place,
            [table.target for table in examination.tables if table.target.name in tables],
            timeout=settings.database.statement_timeout,
            tenants=tenants,
            today=examination.today,
            side_by_side=settings.database.scan_concurrency,
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
