"""Writes the incident of a run that had no pytest around it."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from reports.account.assembly import incident_of, unexamined_incident
from reports.history import keep
from reports.outputs.files import write

if TYPE_CHECKING:
    from checks.examination.run_context import RunContext
    from checks.exit_status import ExitStatus
    from remediation.run.repair_run import RepairRun


def write_incident(context: RunContext | None, run: RepairRun, status: ExitStatus) -> Path | None:
    """Write it below the run's folder of reports, and return the page; see `WriteIncident`.

    None where every check held and nothing was done. Raises OSError.
    """
    command = (Path(sys.argv[0]).name, *sys.argv[1:])
    if context is None:
        incident = unexamined_incident(
            run.refused or "nothing could be examined",
            run_id=run.run_id,
            started_at=run.started_at,
            command=command,
            status=status,
        )
    else:
        trend = None
        with suppress(OSError):  # A run without a history has a report all the same.
            trend = keep(
                context,
                run.report_directory,
                run_id=run.run_id,
                at=run.started_at,
                again=datetime.now(UTC) if run.measured_again else None,
            )
        found = incident_of(context, run, command=command, status=status, trend=trend)
        if found is None:
            return None
        incident = found
    keys = [one.keys for one in run.diagnoses.values()]
    return write(incident, run.report_directory, keys).html
