"""Ends a run's terminal output with what does not hold, once each, and what to type next.

pytest shows a failure for each item: of hundreds of tenants a screen each. Those of our checks are
told by check and table instead; with -v, -r or --tb of a person's own, pytest's way stays.
Imports late what its hooks need, as `checks.plugin` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checks.items.stash import RUN_CONTEXT
from checks.plugin import case_of
from checks.redaction import for_terminal
from remediation.stash import REPAIR_RUN
from reports.plugin import DIAGNOSES

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from _pytest.terminal import TerminalReporter

    from checks.items.cases import Case
    from reports.terminal.failing_checks import FailingCheck

CASES_RUN = pytest.StashKey[dict["Case", None]]()
"""The cases that were run, in their order."""
TOLD = pytest.StashKey[list[pytest.TestReport]]()
"""The reports of checks that do not hold, which the summary tells."""
FAILURES = ("failed", "error")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[CASES_RUN] = {}
    config.stash[TOLD] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember which cases were run, and which reports say that one does not hold."""
    report = yield
    case = case_of(item)
    if case is not None:
        from checks.items.checked_case import DoesNotHoldError

        item.config.stash[CASES_RUN][case] = None
        if call.excinfo is not None and isinstance(call.excinfo.value, DoesNotHoldError):
            item.config.stash[TOLD].append(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    """What does not hold: in full ahead of everything else, and as a table below it."""
    context = config.stash.get(RUN_CONTEXT, None)
    if context is None or config.option.collectonly:
        yield
        return
    from reports.terminal.next_step import next_steps

    failing, unseen = _judged(config)
    shown = dict(terminalreporter.stats)
    in_full = not _as_pytest(config)
    if in_full:
        _leave_out_told(terminalreporter, config.stash[TOLD])
        if config.option.tbstyle != "no":
            _write_in_full(terminalreporter, failing)
    try:
        yield
    finally:
        terminalreporter.stats.update(shown)
    run = config.stash.get(REPAIR_RUN, None)
    if failing or unseen:
        from reports.terminal.screen import summary_lines

        red = bool(unseen) or any(line.severity == "error" for line in failing)
        wrote = run is not None and bool(run.results)
        again = run is not None and run.measured_again
        fails = "still fails" if again else "failed before the repair" if wrote else "fails"
        what = f"what {fails}" if red else "warnings"
        terminalreporter.write_sep("=", what, bold=True, red=red, yellow=not red)
        writer = config.get_terminal_writer()
        width = writer.fullwidth
        told = summary_lines(
            failing,
            context.examination,
            width=width,
            diagnoses=config.stash.get(DIAGNOSES, {}),
        )
        for line, colour in told:
            terminalreporter.write_line(for_terminal(line), **({colour: True} if colour else {}))
    for reason, checks in unseen.items():
        names = ", ".join(dict.fromkeys(checks))
        terminalreporter.write_line(for_terminal(f"not looked at by {names}: {reason}"), red=True)
    for step in next_steps(config, context, run, failing):
        terminalreporter.write_line(for_terminal(step), bold=True)


def _as_pytest(config: pytest.Config) -> bool:
    """Whether a person asked for pytest's own lines."""
    return bool(config.option.verbose > 0 or config.option.reportchars != "fE")


def _judged(config: pytest.Config) -> tuple[tuple[FailingCheck, ...], Mapping[str, Sequence[str]]]:
    """What does not hold, and the checks that could not be made, by the reason."""
    from checks.items.judgements import judge
    from reports.terminal.failing_checks import failing_checks

    examination = config.stash[RUN_CONTEXT].examination
    judged = [judge(case, examination) for case in config.stash[CASES_RUN]]
    run = config.stash.get(REPAIR_RUN, None)
    findings = [finding for one in judged for finding in one.open_findings]
    findings += run.new_findings if run else ()
    # Where the schema check tells why, the others of its table need not.
    told = {finding.table for finding in findings if finding.check == "schema"}
    unseen: dict[str, list[str]] = {}
    for one in judged:
        if one.not_examined is not None and one.case.table not in told:
            unseen.setdefault(one.not_examined, []).append(one.case.check)
    return failing_checks(findings, examination), unseen


def _leave_out_told(reporter: TerminalReporter, told: list[pytest.TestReport]) -> None:
    """Keep pytest from showing what the summary tells; its counts are put back before the end."""
    ours = set(map(id, told))
    for outcome in FAILURES:
        if outcome in reporter.stats:
            reports = reporter.stats[outcome]
            reporter.stats[outcome] = [one for one in reports if id(one) not in ours]
    if "warnings" in reporter.stats:
        reporter.stats["warnings"] = [
            one for one in reporter.stats["warnings"] if "IntegrityWarning: " not in one.message
        ]


def _write_in_full(reporter: TerminalReporter, failing: tuple[FailingCheck, ...]) -> None:
    from reports.terminal.screen import detail_lines, title

    # What is wrong with a table is said below; here is what it takes to see the rows.
    with_rows = [line for line in failing if line.query is not None or line.failing is not None]
    if not with_rows:
        return
    reporter.section("FAILURES")
    for line in with_rows:
        reporter.write_sep("_", for_terminal(title(line)), red=True, bold=True)
        for text in detail_lines(line):
            reporter.write_line(for_terminal(text))
