"""Connects the repair with pytest: its loop, its embedder, its status and summary.

Thin: `options` has the options, `phases` the order, `announcement` the words.
Imports late what its hooks need, as `checks.plugin` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checks.errors import IntegrityError
from checks.interruption import end_in_order
from checks.items.stash import RUN_CONTEXT
from checks.redaction import for_terminal
from remediation.options import overridden, report_directory
from remediation.stash import CANARY_EMBEDDERS, REPAIR_RUN, begin_run
from remediation.two_pass import PASSES, REPAIR

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from _pytest.terminal import TerminalReporter

    from remediation.run.canary_embedder import CanaryEmbedder


def pytest_configure(config: pytest.Config) -> None:
    """Refuse --distributed without the packages for it; exits with 4."""
    if not config.getoption("--distributed"):
        return
    from remediation.distributed.shared.schema import NotInstalledError, require_extra

    try:
        require_extra()
    except NotInstalledError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the checks, plan, repair, and run the checks of the repaired tables again."""
    config = session.config
    context = config.stash.get(RUN_CONTEXT, None)
    if context is None or not config.getoption("--remediate") or config.option.collectonly:
        return None
    if session.testsfailed and not config.option.continue_on_collection_errors:
        return None  # pytest's own loop reports what went wrong
    from remediation.phases import run_passes

    end_in_order(config)
    run_passes(session, context, begin_run(config, report_directory(config)))
    return True


@pytest.fixture(scope="session")
def embedder(pytestconfig: pytest.Config) -> Iterator[CanaryEmbedder]:
    """The embedder of the canary `drift`, with the run's keys and within its caps."""
    from remediation.run.canary_embedder import open_embedder

    context = pytestconfig.stash[RUN_CONTEXT]
    repair = pytestconfig.stash.get(REPAIR, None)
    if repair is None:
        opened = open_embedder(
            settings=overridden(pytestconfig, context.settings),
            environment=context.environment,
            examination=context.before,
            place=context.place,
        )
    else:
        opened = repair.embedder(dry_run=pytestconfig.getoption("--dry-run"))
    try:
        with opened as ready:
            pytestconfig.stash.setdefault(CANARY_EMBEDDERS, []).append(ready)
            yield ready
    except IntegrityError as error:
        pytest.fail(f"drift: could not look: {for_terminal(str(error))}", pytrace=False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    passes = item.config.stash.get(PASSES, None)
    return None if passes is None else passes.protocol(item, nextitem)


def pytest_report_teststatus(
    report: pytest.TestReport,
) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """Show a check that failed before the repair as a rerun."""
    if str(report.outcome) == "rerun":
        return "rerun", "R", ("RERUN", {"yellow": True})
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Give the run its documented exit status where the repair has a say."""
    run = session.config.stash.get(REPAIR_RUN, None)
    if run is None or exitstatus not in (
        pytest.ExitCode.OK,
        pytest.ExitCode.TESTS_FAILED,
        pytest.ExitCode.NO_TESTS_COLLECTED,
    ):
        return
    if run.ended_early_with is not None:
        session.exitstatus = run.ended_early_with
    elif run.new_findings:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    """Show the plan of a dry run or the results of the repair, below pytest's own summaries."""
    yield
    run = config.stash.get(REPAIR_RUN, None)
    if run is None or run.rolls_back is not None:
        return
    from remediation.announcement import result_lines
    from remediation.plan_table import plan_lines, unrepaired_lines

    lines: list[str] = []
    if run.plan is not None and (run.dry_run or not run.plan.tables):
        width = config.get_terminal_writer().fullwidth
        lines += plan_lines(run.plan, place=run.place, dry_run=run.dry_run, width=width)
    elif run.plan is not None:
        lines += unrepaired_lines(run.plan)
    if run.refused is not None:
        lines.append(f"no repair: {run.refused}")
    lines += result_lines(run.results, run.texts)
    terminalreporter.section("the plan" if run.dry_run else "the repair")
    for line in lines:
        terminalreporter.write_line(for_terminal(line))
