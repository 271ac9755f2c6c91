"""Runs the phases of a `--remediate` run in order: checks, plan, repair, and the checks again.

Decides the order alone; `execution` plans and repairs, `two_pass` runs the checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from checks.errors import IntegrityError
from checks.plugin import case_of
from checks.redaction import for_terminal
from remediation.announcement import Progress
from remediation.execution import execute, opened
from remediation.options import overridden, reporter_of
from remediation.plan_table import plan_lines
from remediation.two_pass import PASSES, REPAIR, TwoPasses

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from checks.examination.run_context import RunContext
    from remediation.execution import Distribute
    from remediation.journal.outcomes import Outcome
    from remediation.run.repair import Repair
    from remediation.run.repair_run import RepairRun
    from remediation.table_repair.planning.plan import Plan


def run_passes(session: pytest.Session, context: RunContext, run: RepairRun) -> None:
    """Run the checks, plan, repair, and run the checks of the repaired tables again."""
    config = session.config
    try:
        with opened(
            context,
            run,
            settings=overridden(config, context.settings),
            started_from=config.invocation_params.dir,
            retry_quarantined=config.getoption("--retry-quarantined"),
        ) as repair:
            config.stash[REPAIR] = repair
            distribute: Distribute | None = None
            if config.getoption("--distributed"):
                from remediation.distributed.distributed_repair import distributed
                from remediation.distributed.shared.queue import require_session
                from remediation.distributed.shared.schema import require_installed

                require_installed(repair.connection)
                require_session(repair.place)
                distribute = distributed
            touched = frozenset() if run.dry_run else _touched(repair, session.items)
            context.provisional = touched
            passes = config.stash[PASSES] = TwoPasses(tables=touched)
            try:
                run.note("first pass of the checks")
                passes.run_first(session.items)
                repair.examination = context.examination  # now with the canaries' verdicts
                execute(
                    context,
                    run,
                    repair,
                    TerminalWatcher(config, run),
                    show_texts=config.getoption("--show-texts"),
                    distribute=distribute,
                )
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


class TerminalWatcher:
    """Shows a repair on the terminal while it goes on."""

    def __init__(self, config: pytest.Config, run: RepairRun) -> None:
        self._config = config
        self._run = run
        self._progress: Progress | None = None

    def planned(self, plan: Plan) -> None:
        reporter = reporter_of(self._config)
        reporter.ensure_newline()
        reporter.section("the plan", sep="-")
        width = self._config.get_terminal_writer().fullwidth
        for line in plan_lines(plan, place=self._run.place, dry_run=False, width=width):
            reporter.write_line(for_terminal(line))
        self._progress = Progress(plan.selected, self._config.get_terminal_writer())

    def settled(self, outcome: Outcome) -> None:
        if self._progress is not None:
            self._progress.settled(outcome)

    def paused(self, words: str) -> None:
        if self._progress is not None:
            self._progress.say(for_terminal(words))

    def ended(self) -> None:
        if self._progress is not None:
            self._progress.close()


def _touched(repair: Repair, items: Sequence[pytest.Item]) -> frozenset[str]:
    """Tables whose checks run again: those with a failing row that a repair may heal.

    Tables with a drift check are included: which rows drift is known only after the first pass.
    """
    cases = filter(None, map(case_of, items))
    sampled = {case.table for case in cases if case.check == "drift"}
    # An item of many tables is named as these are declared.
    declared = {table.target.entry for table in repair.tables}
    return frozenset(table.target.name for table in repair.tables) | declared | sampled
