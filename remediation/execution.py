"""Executes a repair: opens it, plans, repairs, and measures again. Knows no pytest.

Enters in the run whatever comes of it; a `Watcher` is told while it goes on.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol, TypeAlias

import psycopg

from checks.diagnosis.diagnosis import diagnose
from checks.errors import CannotExamineError
from remediation.announcement import result_lines, time_after_probe
from remediation.ending import words_of
from remediation.journal.quarantine import recall
from remediation.run.opening import open_repair
from remediation.run.verification import take_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from checks.examination.run_context import RunContext
    from checks.settings.integrity_toml import Settings
    from remediation.journal.outcomes import Outcome
    from remediation.run.repair import Repair
    from remediation.run.repair_run import RepairRun
    from remediation.table_repair.planning.estimate import Estimate
    from remediation.table_repair.planning.plan import Plan, TablePlan


Distribute: TypeAlias = "Callable[[Repair], AbstractContextManager[None]]"
"""Prepares a repair so that, in the `with` block, other machines do its work."""


class Watcher(Protocol):
    """Is told of a repair while it goes on, from one thread at a time."""

    def planned(self, plan: Plan) -> None:
        """What will be repaired; nothing has been sent yet."""

    def settled(self, outcome: Outcome) -> None:
        """One more row has its outcome."""

    def paused(self, words: str) -> None:
        """A pause has begun or ended."""

    def ended(self) -> None:
        """No further row will be settled."""


@contextmanager
def opened(
    context: RunContext,
    run: RepairRun,
    *,
    settings: Settings,
    started_from: Path,
    retry_quarantined: bool,
) -> Iterator[Repair]:
    """The repair of what was examined, diagnosed first, while it is as it was found.

    Raises what `open_repair` raises.
    """
    run.diagnoses = diagnose(context.place, context.settings, context.before)
    with open_repair(
        run_id=run.run_id,
        settings=settings,
        environment=context.environment,
        examination=context.before,
        read_place=context.place,
        tenants=context.selection.tenants,
        started_from=started_from,
        quarantine=None if retry_quarantined else recall(run.report_directory),
        report_directory=run.report_directory,
    ) as repair:
        run.place, run.server = repair.place.place, repair.server
        yield repair


def execute(
    context: RunContext,
    run: RepairRun,
    repair: Repair,
    watcher: Watcher,
    *,
    show_texts: bool = False,
    distribute: Distribute | None = None,
) -> None:
    """Plan; unless it is a dry run, repair and measure again. Enters refusals in the run.

    `distribute` has other machines do the work. Raises what it raises.
    """
    try:
        run.plan = repair.plan()
    except (CannotExamineError, psycopg.Error) as error:
        run.refused = f"the plan could not be made: {words_of(error)}"
        return
    for words in run.plan.notes:
        run.note(words)
    if run.dry_run or not run.plan.tables:
        return
    watcher.planned(run.plan)
    run.note(f"plan: {run.plan.rows:,} rows in {run.plan.requests:,} requests")

    def tell(words: str) -> None:
        watcher.paused(words)
        run.note(words)

    def tell_time(planned: TablePlan, estimate: Estimate) -> None:
        if (words := time_after_probe(planned, estimate)) is not None:
            tell(words)

    try:
        with distribute(repair) if distribute else nullcontext():
            repair.run(run.plan, run.report_directory, watcher.settled, tell, tell_time)
    except OSError as error:
        run.refused = (
            f"the journal cannot be begun below {run.report_directory}: {error.strerror}; nothing"
            " was replaced; make it a folder that can be written, or name another (--report-dir)"
        )
    finally:
        watcher.ended()
        run.results = repair.results
        for result in repair.results:
            run.note(next(reversed(list(result_lines([result])))))
    if show_texts:
        run.texts = repair.texts_left()
    take_in(context, run, repair.remeasure(), repair.place)
    for words in repair.notes:
        run.note(words)
