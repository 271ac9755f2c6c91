"""Repairs what fails anew, time after time: each sweep is a distributed repair without a person.

One sweep at a time over all workers, within dollars per day. Knows no queue.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from checks.examination.selection import Selection
from checks.redaction import redactor
from checks.settings.integrity_toml import overridden
from checks.wording import dollars, plural
from remediation.announcement import result_lines
from remediation.distributed.distributed_repair import distributed
from remediation.distributed.shared.budget import spent_by_sweeps
from remediation.distributed.shared.journal import collect_left
from remediation.distributed.shared.schema import shared_connection
from remediation.journal.outcomes import Outcome
from remediation.run.repair_run import RepairRun, new_run_id
from remediation.unattended import repair_unattended, status_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from pathlib import Path

    from checks.database.connection import ConnectionTarget
    from checks.examination.run_context import RunContext
    from checks.exit_status import ExitStatus
    from checks.settings.integrity_toml import Settings
    from remediation.table_repair.planning.plan import Plan
    from remediation.unattended import WriteIncident

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Sweeps:
    """What every sweep of one worker needs."""

    settings: Settings
    environment: Mapping[str, str] = field(repr=False)
    place: ConnectionTarget
    """Where repairs write."""
    every: timedelta
    max_cost_per_day: float
    """Dollars of all sweeps that begin on one day, by UTC."""
    report_directory: Path
    started_from: Path
    write_incident: WriteIncident
    ended: threading.Event = field(default_factory=threading.Event)
    """Set from any thread: the sweep that goes on ends in order."""

    def sweep(self) -> None:
        """Examine everything, and have workers repair what fails. Raises what that raises."""
        collect_left(self.place, self.report_directory)
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        with shared_connection(self.place) as shared:
            left = self.max_cost_per_day - spent_by_sweeps(shared, midnight)
        if left <= 0:
            log.info("no sweep: %s for today are spent", dollars(self.max_cost_per_day))
            return
        run = RepairRun(
            run_id=new_run_id(),
            started_at=datetime.now(UTC),
            dry_run=False,
            report_directory=self.report_directory,
        )
        cap = min(left, self.settings.repair.max_cost)
        context = repair_unattended(
            settings=overridden(self.settings, "repair", "max_cost", cap),
            environment=self.environment,
            selection=Selection(),
            run=run,
            watcher=_Logging(),
            started_from=self.started_from,
            write_incident=self._write,
            distribute=partial(distributed, sweep=True, ended=self.ended),
        )
        for line in result_lines(run.results):
            log.info("%s", redactor.clean(line))
        log.info("run %s: %s", run.run_id, run.refused or status_of(context, run).name.lower())

    def _write(self, context: RunContext | None, run: RepairRun, status: ExitStatus) -> Path | None:
        """A report of what was repaired; what cannot be, the nightly checks report."""
        fixed = any(result.account.count(Outcome.FIXED) for result in run.results)
        return self.write_incident(context, run, status) if fixed else None


class _Logging:
    """Says in the log what a sweep does."""

    def planned(self, plan: Plan) -> None:
        log.info("sweep: %s in %s", plural(plan.rows, "row"), plural(plan.requests, "request"))

    def settled(self, outcome: Outcome) -> None:
        """Rows are too many to be said one by one."""

    def paused(self, words: str) -> None:
        log.info("%s", redactor.clean(words))

    def ended(self) -> None:
        """The result says it."""
