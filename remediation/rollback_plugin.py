"""Connects the rollback with pytest: its option, and the rollback before the checks.

Thin: `rollback` puts back, `announcement` has the words; the checks then run once, as usual.
Imports late what its hooks need, as `checks.plugin` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checks.errors import IntegrityError
from checks.interruption import end_in_order
from checks.items.stash import RUN_CONTEXT
from checks.redaction import for_terminal, redactor
from remediation.options import report_directory, require_whole_run
from remediation.stash import REPAIR_RUN, begin_run

if TYPE_CHECKING:
    from collections.abc import Generator

    from _pytest.terminal import TerminalReporter

    from checks.examination.run_context import RunContext
    from remediation.journal.past_journals import PastJournal
    from remediation.run.repair_run import RepairRun

PAST: pytest.StashKey[PastJournal] = pytest.StashKey()
"""The journal of the run that is rolled back."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("embedding integrity").addoption(
        "--rollback",
        metavar="RUN_ID",
        help="put back what a run replaced, then run the checks; with --dry-run: only show it",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse options that contradict it, and an unknown run; exits with 4."""
    run_id = config.getoption("--rollback")
    if run_id is None:
        return
    if config.getoption("--remediate"):
        raise pytest.UsageError("--rollback and --remediate are two runs: one undoes, one repairs")
    require_whole_run(config, "--rollback", what="rollback")
    from remediation.journal.past_journals import UnknownRunError, find_journal

    directory = report_directory(config)
    try:
        config.stash[PAST] = find_journal(run_id, directory)
    except UnknownRunError as error:
        raise pytest.UsageError(f"--rollback: {redactor.clean(str(error))}") from None
    except OSError as error:
        raise pytest.UsageError(
            f"--rollback: {directory} cannot be read: {error.strerror}"
        ) from None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Put back, and measure again; pytest's own loop then runs the checks."""
    config = session.config
    past, context = config.stash.get(PAST, None), config.stash.get(RUN_CONTEXT, None)
    if past is None or context is None or config.option.collectonly:
        return
    if session.testsfailed and not config.option.continue_on_collection_errors:
        return  # pytest's own loop reports what went wrong
    import psycopg

    end_in_order(config)
    run = begin_run(config, report_directory(config), rolls_back=past.run_id)
    try:
        _roll_back(config, context, run, past)
    except (IntegrityError, psycopg.Error) as error:
        run.refuse(error)
    except BaseException:
        run.interrupted = True
        run.note("interrupted")
        raise


def _roll_back(
    config: pytest.Config, context: RunContext, run: RepairRun, past: PastJournal
) -> None:
    from remediation.announcement import Progress, put_back_lines
    from remediation.distributed.shared.journal import collect_left
    from remediation.rollback.rollback import open_rollback
    from remediation.run.preflight import write_place
    from remediation.run.verification import take_in

    # What workers sent while nobody was there to take it in is part of its journal.
    collect_left(
        write_place(context.settings, context.environment, context.place), run.report_directory
    )
    with open_rollback(
        run_id=run.run_id,
        journal=past,
        settings=context.settings,
        environment=context.environment,
        examination=context.before,
        selection=context.selection,
        read_place=context.place,
    ) as rollback:
        run.place, run.server = rollback.side.place.place, rollback.side.server
        try:
            if run.dry_run:
                run.results = rollback.foresee()
                return
            run.note(f"rollback of run {past.run_id}")
            progress = Progress(rollback.rows, config.get_terminal_writer(), what="rollback")
            try:
                rollback.run(run.report_directory, progress.settled)
            finally:
                progress.close()
                run.results = rollback.results
                for line in put_back_lines(run.results, dry_run=False):
                    run.note(line)
        except OSError as error:
            run.refused = f"a journal cannot be read or begun: {error.strerror}"
        take_in(context, run, rollback.measure_again(), rollback.side.place)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    """Show what was put back, or would be, below pytest's own summaries."""
    yield
    run = config.stash.get(REPAIR_RUN, None)
    if run is None or run.rolls_back is None:
        return
    from remediation.announcement import put_back_lines

    lines = [f"rolls back run {run.rolls_back}"]
    if run.place:
        lines.append(f"writes to {run.place}")
    lines += run.warnings
    lines += [finding.message for finding in run.new_findings]
    if run.refused is not None:
        lines.append(f"no rollback: {run.refused}")
    lines += put_back_lines(run.results, dry_run=run.dry_run)
    if run.refused is None and not run.results and not run.interrupted:
        lines.append("nothing to put back: the run wrote to no row of the selected tables")
    if run.dry_run:
        lines.append("dry run: nothing was written")
    terminalreporter.section("what would be put back" if run.dry_run else "the rollback")
    for line in lines:
        terminalreporter.write_line(for_terminal(line))
