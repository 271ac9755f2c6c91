"""Writes the incident report at the end of a run with `--remediate` or `--rollback`.

Imports late what its hooks need, as `checks.plugin` does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from checks.items.stash import RUN_CONTEXT, UNEXAMINED
from embedding_integrity.run import COMMAND
from remediation.options import report_directory
from remediation.rollback_plugin import PAST
from remediation.run.repair_run import new_run_id
from remediation.stash import REPAIR_RUN

if TYPE_CHECKING:
    from collections.abc import Generator

    from _pytest.terminal import TerminalReporter

    from reports.html import WrittenReport
    from reports.incident import Incident

STARTED = pytest.StashKey[datetime]()
WRITTEN: pytest.StashKey[WrittenReport | str] = pytest.StashKey()
"""The report's files, or why there are none."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STARTED] = datetime.now(UTC)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report, whatever became of the repair; a dry run writes nothing."""
    config = session.config
    may_write = config.getoption("--remediate") or config.getoption("--rollback")
    if not may_write or config.getoption("--dry-run"):
        return
    from reports.html import write

    incident = _incident(session)
    if incident is None:
        return
    try:
        config.stash[WRITTEN] = write(incident, report_directory(config))
    except OSError as error:
        config.stash[WRITTEN] = f"the incident report could not be written: {error.strerror}"


def _incident(session: pytest.Session) -> Incident | None:
    """The incident of this run; None where every check held and nothing was done."""
    from reports.assembly import incident_of, unexamined_incident

    config, status = session.config, int(session.exitstatus)
    as_pytest = ("pytest", *map(str, config.invocation_params.args))
    command = config.stash.get(COMMAND, as_pytest)
    unexamined = config.stash.get(UNEXAMINED, None)
    if unexamined is not None:
        return unexamined_incident(
            unexamined,
            run_id=new_run_id(),
            started_at=config.stash[STARTED],
            command=command,
            status=status,
            rolls_back=past.run_id if (past := config.stash.get(PAST, None)) else None,
        )
    run = config.stash.get(REPAIR_RUN, None)
    if run is None:
        return None
    return incident_of(config.stash[RUN_CONTEXT], run, command=command, status=status)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    """Where the report is, below everything else."""
    yield
    written = config.stash.get(WRITTEN, None)
    if isinstance(written, str):
        terminalreporter.write_line(written, red=True)
    elif written is not None:
        terminalreporter.write_line(f"incident report: {written.html}")
