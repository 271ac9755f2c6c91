"""Writes the incident report at the end of a run, and keeps the history of runs.

Imports late what its hooks need, as `checks.plugin` does.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from checks.interruption import MEANWHILE
from checks.items.stash import RUN_CONTEXT, UNEXAMINED
from checks.plugin import environment_of
from checks.redaction import for_terminal
from embedding_integrity.run import COMMAND
from remediation.options import report_directory
from remediation.provider.usage import NOTHING
from remediation.rollback_plugin import PAST
from remediation.run.repair_run import RepairRun, new_run_id
from remediation.stash import CANARY_EMBEDDERS, REPAIR_RUN

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from _pytest.terminal import TerminalReporter

    from checks.diagnosis.diagnosis import Diagnosis
    from reports.outputs.files import WrittenReport
    from reports.values.incident import Incident
    from reports.values.trend import Trend

FALLS = 5
"""Falls of coverage that the terminal tells."""
BRIEF = timedelta(seconds=10)
"""What the diagnosis takes at most where there is no report."""
DIAGNOSES: pytest.StashKey[Mapping[str, Diagnosis]] = pytest.StashKey()
"""Of what still fails at the end."""
INCIDENT: pytest.StashKey[Incident] = pytest.StashKey()
RUN_ID = pytest.StashKey[str]()
SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
TOLD = pytest.StashKey[list[str]]()
"""What the history tells."""
STARTED = pytest.StashKey[datetime]()
WRITTEN: pytest.StashKey[WrittenReport | str] = pytest.StashKey()
"""The report's files, or why there are none."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("embedding integrity")
    group.addoption(
        "--report",
        action="store_true",
        help="write the report of a run without --remediate too, below --report-dir",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STARTED] = datetime.now(UTC)
    config.stash.setdefault(MEANWHILE, []).append(_prepare)


def _prepare() -> None:
    """Do what the report needs on any account: half of what it takes."""
    from reports.page.html import prepare

    prepare()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report, whatever became of the repair, and keep the history.

    Without --report a run of the checks and a dry run write no report, and add to a history alone
    that is there.
    """
    config = session.config
    repairs = config.getoption("--remediate") or config.getoption("--rollback")
    writes = (repairs and not config.getoption("--dry-run")) or config.getoption("--report")
    context = config.stash.get(RUN_CONTEXT, None)
    examined = context is not None or UNEXAMINED in config.stash
    if config.option.collectonly or not examined:
        return
    directory = report_directory(config)
    # GitHub Actions shows it as a summary and as annotations, whether or not it is kept.
    shown = any(environment_of(config).get(name) for name in (SUMMARY_VARIABLE, "GITHUB_ACTIONS"))
    run = config.stash.get(REPAIR_RUN, None)
    if run is None:
        run = _run_of_checks(session, directory, briefly=not (writes or shown))
    else:
        # A repair is begun after the first look, the run before it.
        run.started_at = config.stash[STARTED]
    if (embedders := config.stash.get(CANARY_EMBEDDERS, None)) is not None:
        run.canary = sum((embedder.took for embedder in embedders), NOTHING)
    config.stash[DIAGNOSES] = {} if run.measured_again else run.diagnoses
    config.stash[RUN_ID] = run.run_id
    trend = _trend(session, run) if writes or directory.is_dir() else None
    if not (writes or shown):
        return
    try:
        incident = _incident(session, run, trend, checks_only=not repairs)
        if incident is None:
            return
        config.stash[INCIDENT] = incident
        if not writes:
            return
        from reports.outputs.files import write

        config.stash[WRITTEN] = write(
            incident, directory, [one.keys for one in run.diagnoses.values()]
        )
    except OSError as error:
        config.stash[WRITTEN] = f"the incident report could not be written: {error.strerror}"
    except MemoryError:
        config.stash[WRITTEN] = "the incident report could not be written: no memory is left"


def _trend(session: pytest.Session, run: RepairRun) -> Trend | None:
    """The trend of this run, once it is in the history; None where it has none."""
    config = session.config
    context = config.stash.get(RUN_CONTEXT, None)
    if context is None or session.exitstatus == pytest.ExitCode.INTERNAL_ERROR:
        return None
    from reports.history import keep

    try:
        trend = keep(
            context,
            run.report_directory,
            run_id=run.run_id,
            at=run.started_at,
            again=datetime.now(UTC) if run.measured_again else None,
        )
    except OSError as error:
        config.stash[TOLD] = [f"the history could not be kept: {error.strerror}"]
        return None
    config.stash[TOLD] = [fall.says for fall in (trend.falls if trend else ())[:FALLS]]
    return trend


def _run_of_checks(session: pytest.Session, directory: Path, *, briefly: bool) -> RepairRun:
    """A run that repairs nothing; diagnosed briefly where the terminal alone tells of it."""
    config = session.config
    run = RepairRun(
        run_id=new_run_id(),
        started_at=config.stash[STARTED],
        dry_run=False,
        report_directory=directory,
    )
    context = config.stash.get(RUN_CONTEXT, None)
    interrupted = session.exitstatus == pytest.ExitCode.INTERRUPTED
    if context is not None and not interrupted:
        from checks.diagnosis.diagnosis import diagnose

        run.diagnoses = diagnose(
            context.place,
            context.settings,
            context.before,
            within=BRIEF if briefly else None,
            keys=not briefly,
        )
    return run


def _incident(
    session: pytest.Session, run: RepairRun, trend: Trend | None, *, checks_only: bool
) -> Incident | None:
    """The incident of this run; None where every check held and nothing was to be reported."""
    from reports.account.assembly import incident_of, unexamined_incident

    config, status = session.config, int(session.exitstatus)
    as_pytest = ("pytest", *map(str, config.invocation_params.args))
    command = config.stash.get(COMMAND, as_pytest)
    unexamined = config.stash.get(UNEXAMINED, None)
    if unexamined is not None:
        return unexamined_incident(
            unexamined,
            run_id=run.run_id,
            started_at=config.stash[STARTED],
            command=command,
            status=status,
            rolls_back=past.run_id if (past := config.stash.get(PAST, None)) else None,
            mode="check" if checks_only else "repair",
        )
    return incident_of(
        config.stash[RUN_CONTEXT],
        run,
        command=command,
        status=status,
        checks_only=checks_only,
        trend=trend,
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    """Where the report is, below everything else."""
    yield
    for words in config.stash.get(TOLD, ()):
        terminalreporter.write_line(for_terminal(words), yellow=True)
    written = config.stash.get(WRITTEN, None)
    if isinstance(written, str):
        terminalreporter.write_line(written, red=True)
    elif written is not None:
        terminalreporter.write_line(f"incident report: {written.html}")
