"""Runs the phases of a `--remediate` run in order: checks, plan, repair, and the checks again.

Decides the order alone; `run.repair` plans and repairs, `two_pass` runs the checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from checks.database.connection import reason_of
from checks.errors import IntegrityError
from checks.plugin import case_of
from checks.redaction import for_terminal
from remediation.announcement import Progress, plan_lines, result_lines
from remediation.journal.quarantine import recall
from remediation.options import overridden, reporter_of
from remediation.run.repair import Repair, open_repair
from remediation.run.verification import take_in
from remediation.two_pass import PASSES, REPAIR, TwoPasses

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from checks.examination.run_context import RunContext
    from remediation.run.repair_run import RepairRun


def run_passes(session: pytest.Session, context: RunContext, run: RepairRun) -> None:
    """Run the checks, plan, repair, and run the checks of the repaired tables again."""
    config = session.config
    try:
        with open_repair(
            run_id=run.run_id,
            settings=overridden(config, context.settings),
            environment=context.environment,
            examination=context.before,
            read_place=context.place,
            tenants=context.selection.tenants,
            started_from=config.invocation_params.dir,
            quarantine=None
            if config.getoption("--retry-quarantined")
            else recall(run.report_directory),
        ) as repair:
            run.place, run.server = repair.place.place, repair.server
            config.stash[REPAIR] = repair
            touched = frozenset() if run.dry_run else _touched(repair, session.items)
            context.provisional = touched
            passes = config.stash[PASSES] = TwoPasses(tables=touched)
            try:
                run.note("first pass of the checks")
                passes.run_first(session.items)
                repair.examination = context.examination  # now with the canaries' verdicts
                _repair(config, context, run, repair)
            except BaseException:
                run.interrupted = True
                run.note("interrupted")
                context.provisional = frozenset()
                passes.settle_by_first()
                raise
            run.note("second pass of the checks")
            context.provisional = frozenset()
            try:
                passes.run_second()
            except BaseException:
                run.interrupted = True
                run.note("interrupted in the second pass of the checks")
                raise
    except (IntegrityError, psycopg.Error) as error:
        run.refuse(error)
    # Outside the except clause: a check's error must not seem to come from the repair's.
    if PASSES not in config.stash:
        # No check has run yet; the checks are reported all the same.
        TwoPasses(tables=frozenset()).run_first(session.items)


def _repair(config: pytest.Config, context: RunContext, run: RepairRun, repair: Repair) -> None:
    """Plan; unless it is a dry run, repair and measure again. Enters refusals in the run."""
    try:
        run.plan = repair.plan()
    except psycopg.Error as error:
        run.refused = f"the plan could not be made: {reason_of(error)}"
        return
    for words in run.plan.notes:
        run.note(words)
    if run.dry_run or not run.plan.tables:
        return
    reporter = reporter_of(config)
    reporter.ensure_newline()
    reporter.section("the plan", sep="-")
    for line in plan_lines(run.plan, place=run.place, dry_run=False):
        reporter.write_line(for_terminal(line))
    run.note(f"plan: {run.plan.rows:,} rows in {run.plan.requests:,} requests")
    total = sum(
        table.rows + table.rows_without_key + table.without_text + table.quarantined
        for table in run.plan.tables
    )
    progress = Progress(total, config.get_terminal_writer())

    def tell(words: str) -> None:
        progress.say(for_terminal(words))
        run.note(words)

    try:
        repair.run(run.plan, run.report_directory, progress.settled, tell)
    except OSError as error:
        run.refused = f"the journal cannot be opened: {error.strerror}; nothing was replaced"
    finally:
        progress.close()
        run.results = repair.results
        for result in repair.results:
            run.note(next(reversed(list(result_lines([result])))))
    if config.getoption("--show-texts"):
        run.texts = repair.texts_left()
    take_in(context, run, repair.remeasure(), repair.place)


def _touched(repair: Repair, items: Sequence[pytest.Item]) -> frozenset[str]:
    """Tables whose checks run again: those with a failing row that a repair may heal.

    Tables with a drift check are included: which rows drift is known only after the first pass.
    """
    cases = filter(None, map(case_of, items))
    sampled = {case.table for case in cases if case.check == "drift"}
    return frozenset(table.target.name for table in repair.tables) | sampled
