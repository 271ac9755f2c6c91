"""Adds to pytest what other tools read of a run: metrics, GitHub's summary, pytest-html's columns.

Imports late what its hooks need, as `checks.plugin` does.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checks.items.stash import RUN_CONTEXT, UNEXAMINED
from checks.plugin import active, case_of, environment_of
from checks.redaction import for_terminal
from checks.settings.check_names import CANARIES
from reports.plugin import INCIDENT, RUN_ID, STARTED, SUMMARY_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from _pytest.terminal import TerminalReporter

UNWRITTEN = pytest.StashKey[list[str]]()
"""What could not be written, and why."""
SCANNED_FOR = pytest.StashKey[Counter[str]]()
"""How many items share the scan of each table, or of the tables of a pattern."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("embedding integrity")
    group.addoption(
        "--metrics",
        metavar="PATH",
        help="write the coverage of each check and table to this file, as OpenMetrics",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[UNWRITTEN] = []
    if active(config) and config.pluginmanager.has_plugin("html"):
        from reports.outputs import tables_of_tests

        config.pluginmanager.register(tables_of_tests)


def pytest_collection_finish(session: pytest.Session) -> None:
    cases = filter(None, map(case_of, session.items))
    counts = Counter(case.table for case in cases if case.check not in CANARIES)
    session.config.stash[SCANNED_FOR] = counts


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a check's time its share of its table's scan, which was made ahead of all items."""
    report = yield
    case, context = case_of(item), item.config.stash.get(RUN_CONTEXT, None)
    if call.when != "call" or case is None or context is None or case.check in CANARIES:
        return report
    seconds = sum(table.seconds for table in context.examination.tables_of(case.table))
    report.duration += seconds / item.config.stash[SCANNED_FOR][case.table]
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the metrics and the step summary of whatever was seen last."""
    config = session.config
    if config.option.collectonly or not (RUN_CONTEXT in config.stash or UNEXAMINED in config.stash):
        return
    if config.getoption("--metrics"):
        _try(config, "the metrics", lambda: _write_metrics(session))
    if environment_of(config).get(SUMMARY_VARIABLE) and INCIDENT in config.stash:
        _try(config, "the step summary", lambda: _write_summary(config))


def _try(config: pytest.Config, what: str, write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        config.stash[UNWRITTEN].append(f"{what} could not be written: {error.strerror}")


def _write_metrics(session: pytest.Session) -> None:
    from reports.history import measured
    from reports.outputs.files import replace
    from reports.outputs.openmetrics import openmetrics

    config = session.config
    context = config.stash.get(RUN_CONTEXT, None)
    run = None
    if context is not None:
        run = measured(context.examination, run_id=config.stash[RUN_ID], at=config.stash[STARTED])
    text = openmetrics(run, status=int(session.exitstatus), at=time.time())
    path = Path(config.invocation_params.dir, config.getoption("--metrics"))
    # Names tables and no tenant, and is read by a collector that runs as another user.
    replace(path, [text], mode=0o644)


def _write_summary(config: pytest.Config) -> None:
    from reports.outputs.github import passed
    from reports.page.markdown import markdown
    from reports.values.incident import Result

    incident = config.stash[INCIDENT]
    nothing = incident.result is Result.WHOLE and not incident.findings_before
    text = passed(incident) if nothing else markdown(incident)
    with Path(environment_of(config)[SUMMARY_VARIABLE]).open("a", encoding="utf-8") as file:
        file.write(f"\n{text}")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    """Print annotations where GitHub Actions reads them, and what could not be written."""
    yield
    for words in config.stash[UNWRITTEN]:
        terminalreporter.write_line(for_terminal(words), red=True)
    incident = config.stash.get(INCIDENT, None)
    if incident is None or environment_of(config).get("GITHUB_ACTIONS") != "true":
        return
    from reports.outputs.github import workflow_commands
    from reports.page.sections import groups

    last = incident.findings_before
    if incident.findings_after is not None:
        last = incident.findings_after
    for line in workflow_commands(groups(last)):
        terminalreporter.write_line(line)
