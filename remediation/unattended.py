"""Runs a whole repair without pytest: examines, executes, weighs, and has the incident written.

The same path as `pytest --remediate` from the examination to the report; a run's checks are judged
by their findings alone, as no item stands for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import psycopg

from checks.errors import CannotExamineError, IntegrityError
from checks.examination.first_look import first_look
from checks.exit_status import ExitStatus
from checks.tracebacks import bare
from remediation.execution import execute, opened

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from checks.database.connection import ConnectionTarget
    from checks.examination.run_context import RunContext
    from checks.examination.selection import Selection
    from checks.settings.integrity_toml import Settings
    from remediation.execution import Distribute, Watcher
    from remediation.run.repair_run import RepairRun


class WriteIncident(Protocol):
    """Writes the incident of a run that has ended.

    Handed in, since `reports` has the code, which stands above this package.
    """

    def __call__(
        self, context: RunContext | None, run: RepairRun, status: ExitStatus
    ) -> Path | None:
        """Returns the page, or None where there was nothing to report. Raises OSError.

        `context` is None where nothing could be examined; `run.refused` then says why.
        """


@bare
def repair_unattended(
    *,
    settings: Settings,
    environment: Mapping[str, str],
    selection: Selection,
    run: RepairRun,
    watcher: Watcher,
    started_from: Path,
    write_incident: WriteIncident,
    retry_quarantined: bool = False,
    place: ConnectionTarget | None = None,
    distribute: Distribute | None = None,
) -> RunContext:
    """Examine what is selected, and unless it is a dry run repair it; all else is in the run.

    `place` None: where the environment says. A dry run writes no incident. Raises what `first_look`
    raises where nothing could be examined; and KeyboardInterrupt, after the incident is written.
    """
    try:
        context = first_look(settings, environment, selection, place=place)
    except CannotExamineError as error:
        run.refuse(error)
        _write(None, run, write_incident)
        raise
    try:
        with opened(
            context,
            run,
            settings=settings,
            started_from=started_from,
            retry_quarantined=retry_quarantined,
        ) as repair:
            execute(context, run, repair, watcher, distribute=distribute)
    except (IntegrityError, psycopg.Error) as error:
        run.refuse(error)
    except BaseException:
        run.interrupted = True
        run.note("interrupted")
        raise
    finally:
        _write(context, run, write_incident)
    return context


def status_of(context: RunContext | None, run: RepairRun) -> ExitStatus:
    """The exit status that `pytest --remediate` would have ended with."""
    if run.interrupted:
        return ExitStatus.INTERRUPTED
    if context is None:
        return ExitStatus.NOTHING_EXAMINED
    if run.ended_early_with is not None:
        return run.ended_early_with
    findings = (*context.examination.open_findings, *run.new_findings)
    fails = any(finding.severity == "error" for finding in findings)
    return ExitStatus.FAILS if fails else ExitStatus.HOLDS


def _write(context: RunContext | None, run: RepairRun, write_incident: WriteIncident) -> None:
    if run.dry_run:
        return
    try:
        run.page = write_incident(context, run, status_of(context, run))
    except OSError as error:
        run.warn(f"the incident report could not be written: {error.strerror}")
