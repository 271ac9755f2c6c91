"""pytest's side of the repair: its options, and the repair between the two passes.

Thin: `repair` plans and repairs, `passes` runs the checks twice, `announcement` has the words.
"""

from __future__ import annotations

import argparse
import math
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from checks.connection import reason_of
from checks.errors import IntegrityError
from checks.exit_status import ExitStatus
from checks.plugin import EVIDENCE, active, case_of, environment_of
from checks.redaction import for_terminal, redactor
from remediation.announcement import Progress, plan_lines, result_lines
from remediation.canary import open_embedder
from remediation.interruption import Interruption
from remediation.passes import TwoPasses
from remediation.quarantine import recall
from remediation.repair import Repair, open_repair
from remediation.run import RepairRun, new_run_id

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from _pytest.terminal import TerminalReporter

    from checks.connection import ConnectionTarget
    from checks.evidence import Evidence
    from checks.examination import Examination
    from checks.settings import Settings
    from remediation.canary import CanaryEmbedder


REPAIR_RUN = pytest.StashKey[RepairRun]()
REPAIR = pytest.StashKey[Repair]()
"""The opened repair of a `--remediate` run."""
PASSES = pytest.StashKey[TwoPasses]()


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return int(text)


def _amount(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 <= amount < math.inf:
        raise argparse.ArgumentTypeError(f"expected an amount of dollars from 0, found {text!r}")
    return amount


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("embedding integrity")
    group.addoption(
        "--remediate",
        action="store_true",
        help="re-embed what fails, check again, and write an incident report",
    )
    group.addoption(
        "--dry-run",
        action="store_true",
        help="with --remediate or --rollback: show the plan, write nothing, call no provider",
    )
    group.addoption(
        "--retry-quarantined",
        action="store_true",
        help="with --remediate: send rows again that the provider refused in an earlier run",
    )
    group.addoption("--batch-size", type=_positive, metavar="N", help="texts per request, at most")
    group.addoption("--max-rows", type=_positive, metavar="N", help="rows to repair, at most")
    group.addoption(
        "--max-cost", type=_amount, metavar="DOLLARS", help="what the provider may cost, at most"
    )
    group.addoption(
        "--concurrency", type=_positive, metavar="N", help="requests in flight, at most"
    )
    group.addoption(
        "--show-texts",
        action="store_true",
        help="show how the texts of rows that were not fixed begin; else no text is shown",
    )
    group.addoption(
        "--report-dir",
        metavar="DIR",
        help="where incident reports go (default: incidents, or INTEGRITY_REPORT_DIR)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse combinations that cannot be meant; exits with 4."""
    remediate = config.getoption("--remediate")
    if config.getoption("--dry-run") and not remediate and not config.getoption("--rollback"):
        raise pytest.UsageError(
            "--dry-run needs --remediate or --rollback: it shows what they would do (a plain run"
            " never repairs)"
        )
    if not remediate:
        return
    if config.option.maxfail:
        raise pytest.UsageError(
            "-x and --maxfail are refused with --remediate: the repair needs every check's outcome"
        )
    if config.option.setupplan or config.option.setuponly:
        raise pytest.UsageError("--setup-plan and --setup-only do not run a check, nor a repair")
    if not config.pluginmanager.has_plugin("terminal"):
        raise pytest.UsageError("--remediate needs pytest's terminal reporter: its plan is shown")
    if not active(config):
        raise pytest.UsageError("--remediate needs checks/ among the arguments of pytest")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the checks, plan, repair, and run the checks of the repaired tables again."""
    config = session.config
    evidence = config.stash.get(EVIDENCE, None)
    if evidence is None or not config.getoption("--remediate") or config.option.collectonly:
        return None
    if session.testsfailed and not config.option.continue_on_collection_errors:
        return None  # pytest's own loop says what went wrong
    run = RepairRun(
        run_id=new_run_id(),
        started_at=datetime.now(UTC),
        dry_run=config.getoption("--dry-run"),
        report_directory=report_directory(config),
    )
    config.stash[REPAIR_RUN] = run
    with ends_in_order(config):
        _run_passes(session, evidence, run)
    return True


def _run_passes(session: pytest.Session, evidence: Evidence, run: RepairRun) -> None:
    config = session.config
    try:
        with open_repair(
            run_id=run.run_id,
            settings=_overridden(config, evidence),
            environment=evidence.environment,
            examination=evidence.before,
            read_place=evidence.place,
            tenants=evidence.selection.tenants,
            started_from=config.invocation_params.dir,
            quarantine=None
            if config.getoption("--retry-quarantined")
            else recall(run.report_directory),
        ) as repair:
            run.place, run.server = repair.place.place, repair.server
            config.stash[REPAIR] = repair
            touched = frozenset() if run.dry_run else _touched(repair, session.items)
            evidence.provisional = touched
            passes = config.stash[PASSES] = TwoPasses(tables=touched)
            try:
                run.note("first pass of the checks")
                passes.run_first(session.items)
                repair.examination = evidence.examination  # with what the canaries saw
                _repair(config, evidence, run, repair)
            except BaseException:
                run.interrupted = True
                run.note("interrupted")
                evidence.provisional = frozenset()
                passes.settle_by_first()
                raise
            run.note("second pass of the checks")
            evidence.provisional = frozenset()
            try:
                passes.run_second()
            except BaseException:
                run.interrupted = True
                run.note("interrupted in the second pass of the checks")
                raise
    except (IntegrityError, psycopg.Error) as error:
        reason = reason_of(error) if isinstance(error, psycopg.Error) else str(error)
        run.refused = redactor.clean(reason)
        run.note(f"no repair: {run.refused}")
    # Out here: what a check says must not seem to come from what the repair ran into.
    if PASSES not in config.stash:
        # Nothing ran yet: the checks are reported all the same.
        TwoPasses(tables=frozenset()).run_first(session.items)


def _repair(config: pytest.Config, evidence: Evidence, run: RepairRun, repair: Repair) -> None:
    """Plan; then, but for a dry run, repair and measure again. Failures of it are the run's."""
    try:
        run.plan = repair.plan()
    except psycopg.Error as error:
        run.refused = f"the plan could not be made: {reason_of(error)}"
        return
    for words in run.plan.notes:
        run.note(words)
    if run.dry_run or not run.plan.tables:
        return
    reporter = _reporter(config)
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
    take_in(evidence, run, repair.remeasure(), repair.place)


def take_in(
    evidence: Evidence, run: RepairRun, examination: Examination, place: ConnectionTarget
) -> None:
    """Make what was measured again, through `place`, what the checks judge from now on."""
    evidence.examination = examination
    evidence.measured_through = place
    run.measured_again = bool(run.results)
    known = {m.segment for table in evidence.before.tables for m in table.measurements}
    run.new_findings = tuple(
        finding
        for table in evidence.examination.tables
        for verdict in table.verdicts
        if not verdict.holds and verdict.severity == "error" and verdict.segment not in known
        if (finding := table.finding(verdict)).accepted is None
    )


def _touched(repair: Repair, items: Sequence[pytest.Item]) -> frozenset[str]:
    """Tables whose checks run again: those with a failing row that a repair may heal.

    Which rows drift is known only after the first pass.
    """
    cases = filter(None, map(case_of, items))
    sampled = {case.table for case in cases if case.check == "drift"}
    return frozenset(table.target.name for table in repair.tables) | sampled


@pytest.fixture(scope="session")
def embedder(pytestconfig: pytest.Config) -> Iterator[CanaryEmbedder]:
    """What the canary `drift` embeds its samples with: within the caps of the run, and its keys."""
    evidence = pytestconfig.stash[EVIDENCE]
    repair = pytestconfig.stash.get(REPAIR, None)
    if repair is None:
        opened = open_embedder(
            settings=_overridden(pytestconfig, evidence),
            environment=evidence.environment,
            examination=evidence.before,
            place=evidence.place,
        )
    else:
        opened = repair.embedder(dry_run=pytestconfig.getoption("--dry-run"))
    try:
        with opened as ready:
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
    """A check that failed before the repair shows as a rerun."""
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
    if run.stopped_early:
        session.exitstatus = ExitStatus.STOPPED_EARLY
    elif run.new_findings:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    """The plan of a dry run, or what came of the repair, below pytest's own summaries."""
    yield
    run = config.stash.get(REPAIR_RUN, None)
    if run is None or run.rolls_back is not None:
        return
    lines: list[str] = []
    if run.plan is not None and (run.dry_run or not run.plan.tables):
        lines += plan_lines(run.plan, place=run.place, dry_run=run.dry_run)
    lines += [finding.message for finding in run.new_findings]
    if run.refused is not None:
        lines.append(f"no repair: {run.refused}")
    lines += result_lines(run.results, run.texts)
    terminalreporter.section("the plan" if run.dry_run else "the repair")
    for line in lines:
        terminalreporter.write_line(for_terminal(line))


def _reporter(config: pytest.Config) -> TerminalReporter:
    reporter: TerminalReporter | None = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        raise pytest.UsageError("--remediate needs pytest's terminal reporter")
    return reporter


def report_directory(config: pytest.Config) -> Path:
    """Where this run's reports and journal go."""
    named = config.getoption("--report-dir") or environment_of(config).get(
        "INTEGRITY_REPORT_DIR", "incidents"
    )
    return Path(config.invocation_params.dir, named)


def _overridden(config: pytest.Config, evidence: Evidence) -> Settings:
    """The settings with what the command line overrides."""
    settings = evidence.settings
    return settings.model_copy(
        update={
            section: getattr(settings, section).model_copy(
                update={
                    name: value
                    for name in names
                    if (value := config.getoption(f"--{name.replace('_', '-')}")) is not None
                }
            )
            for section, names in (
                ("provider", ("batch_size", "concurrency")),
                ("repair", ("max_rows", "max_cost")),
            )
        }
    )


@contextmanager
def ends_in_order(config: pytest.Config) -> Iterator[None]:
    """One signal ends the block in order. After it, one lets the report be written.

    That is written when the session finishes, beyond the block. See `Interruption`.
    """
    reporter = _reporter(config)

    def say(line: str) -> None:
        reporter.ensure_newline()
        reporter.write_line(line)

    signals = ExitStack()
    config.add_cleanup(signals.close)
    interruption = signals.enter_context(Interruption(say))
    try:
        yield
    finally:
        interruption.finish()
