"""Writes the incident of a run that had no pytest around it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from reports.assembly import incident_of, unexamined_incident
from reports.html import write

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
        found = incident_of(context, run, command=command, status=status)
        if found is None:
            return None
        incident = found
    return write(incident, run.report_directory).html
