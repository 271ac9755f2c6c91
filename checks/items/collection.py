"""Collects the cases of a run: loads the settings, examines everything once, makes the cases.

Knows pytest; the hooks that call it are in `plugin`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest
from _pytest.junitxml import xml_key

from checks.errors import CannotExamineError, ConnectionUrlError
from checks.examination.first_look import first_look
from checks.examination.selection import Selection, UnknownNameError
from checks.exit_status import ExitStatus
from checks.items.cases import Case, cases_declared, cases_listed_as, cases_of
from checks.items.checked_case import CheckedCase, DoesNotHoldError
from checks.items.judgements import judge
from checks.items.stash import CASES, FIXTURES, RUN_CONTEXT, SETTINGS, UNEXAMINED
from checks.redaction import for_terminal, redactor
from checks.scanning.sample import sample_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checks.settings.environment import Environment
    from checks.settings.integrity_toml import Settings


def collect(config: pytest.Config, environment: Environment, settings: Settings) -> None:
    """Examine everything once and leave the cases in the stash.

    Raises pytest's usage error, and ends the run with 10 where nothing can be examined.
    """
    config.stash[SETTINGS] = settings
    # An acceptance of a check that does not apply has an item of its own, which says so.
    accepted = {check for table in settings.tables for check in table.checks}
    for check in accepted | {case.check for case in cases_declared(settings)}:
        config.addinivalue_line("markers", f"{check}: the {check} check of each segment")
    if config.option.collectonly:
        config.stash[CASES] = by_fixture(cases_declared(settings))
        return
    try:
        selection = Selection(
            tables=config.getoption("--table"),
            tenants=tuple(config.getoption("--tenant") or ()) or None,
            sample=sample_of(config.getoption("--sample")),
            since=config.getoption("--since"),
        )
        context = first_look(settings, environment, selection)
    except (ConnectionUrlError, UnknownNameError) as error:
        raise pytest.UsageError(for_terminal(str(error))) from None
    except CannotExamineError as error:
        stop_unexamined(config, for_terminal(str(error)))
    config.stash[RUN_CONTEXT] = context
    config.stash[CASES] = by_fixture(cases_of(context.examination))
    run_what_is_listed(config, cases_declared(settings))


def stop_unexamined(config: pytest.Config, message: str) -> NoReturn:
    """End the run with status 10 and say why on lines of their own."""
    config.stash[UNEXAMINED] = message
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.ensure_newline()
        reporter.section("nothing could be examined", sep="=", red=True, bold=True)
        for line in message.splitlines():
            reporter.write_line(line, red=True)
    pytest.exit("nothing could be examined", returncode=ExitStatus.NOTHING_EXAMINED)


def by_fixture(cases: Iterable[Case]) -> dict[str, list[Case]]:
    """The cases of the tables and their rows, by the fixture that is parametrised with them."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        of_rows = "row_check" if case.beside is None else "gap_check"
        found.setdefault(FIXTURES.get(case.check, of_rows), []).append(case)
    return found


def run_what_is_listed(config: pytest.Config, listed: Iterable[Case]) -> None:
    """Let an id from `--collect-only`, which knows no tenant, run the items that it stands for.

    `listed` are the cases that the settings alone show.
    """
    examination = config.stash[RUN_CONTEXT].examination
    actual = [case for cases in config.stash[CASES].values() for case in cases]
    by_id = {f"[{case.id}]": case for case in listed if case not in actual}
    arguments: list[str] = []
    for argument in config.args:
        function, bracket, rest = argument.partition("[")
        case = by_id.get(bracket + rest)
        stands_for = cases_listed_as(case, actual, examination) if case is not None else ()
        arguments += [f"{function}[{one.id}]" for one in stands_for] or [argument]
    config.args[:] = arguments


def checked_case(request: pytest.FixtureRequest) -> CheckedCase:
    """The case that a fixture is parametrised with; an error or a skip without a verdict."""
    case: Case = request.param
    xml = request.config.stash.get(xml_key, None)
    if xml is not None:
        # What reads JUnit XML groups by class: by table says more than by module of the checks.
        xml.node_reporter(request.node.nodeid).add_attribute(
            "classname", redactor.clean(case.table)
        )
    context = request.config.stash[RUN_CONTEXT]
    judgement = judge(case, context.examination)
    if judgement.not_examined is not None:
        raise DoesNotHoldError(for_terminal(judgement.not_examined), pytrace=False)
    if judgement.not_there is not None:
        pytest.skip(for_terminal(judgement.not_there))
    return CheckedCase(
        judgement=judgement,
        record=lambda name, value: request.node.user_properties.append((name, value)),
        provisional=case.table in context.provisional,
    )
