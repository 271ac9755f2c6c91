"""Connects the checks with pytest: options, one examination at collection, an item per case.

Thin: what to examine and how to judge is decided in `examination` and `cases`.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checks.cases import Case, cases_declared, cases_listed_as, cases_of
from checks.checked_case import CheckedCase
from checks.database.connection_url import parse_url
from checks.errors import CannotExamineError, ConnectionUrlError, SettingsError
from checks.examination.examination import examine
from checks.examination.run_context import Evidence
from checks.examination.selection import Selection, UnknownNameError
from checks.exit_status import ExitStatus
from checks.judgements import judge
from checks.redaction import for_terminal, redactor
from checks.row_checks.built_in import ROW_CHECK_NAMES
from checks.settings.environment import Environment, EnvironmentFileError, read_environment
from checks.settings.integrity_toml import Settings, load_settings
from checks.settings.table_checks import TABLE_CHECKS
from checks.wording import plural

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

CHECKS_DIRECTORY = Path(__file__).resolve().parent

FIXTURES = {"schema": "table_check", "tenants": "tenant_check", "index": "index_check"}
"""The fixtures of the checks of a whole table."""

EVIDENCE = pytest.StashKey[Evidence]()
CASES = pytest.StashKey[dict[str, list[Case]]]()
"""By the name of the fixture that is parametrised with them."""
SETTINGS = pytest.StashKey[Settings]()
UNEXAMINED = pytest.StashKey[str]()
"""Why nothing could be examined."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("embedding integrity")
    group.addoption(
        "--config",
        metavar="PATH",
        help="the settings file (default: integrity.toml, or INTEGRITY_CONFIG)",
    )
    group.addoption(
        "--table",
        action="append",
        metavar="NAME",
        help="examine and repair this table only; repeatable",
    )
    group.addoption(
        "--tenant",
        action="append",
        metavar="NAME",
        help="examine and repair this tenant only; repeatable",
    )


def pytest_configure(config: pytest.Config) -> None:
    for name in TABLE_CHECKS:
        config.addinivalue_line("markers", f"{name}: the {name} check of a table")


def active(config: pytest.Config) -> bool:
    """Whether the checks are among what pytest was asked to collect."""
    for argument in config.args:
        path = Path(config.invocation_params.dir, str(argument).partition("::")[0]).resolve()
        if path.is_relative_to(CHECKS_DIRECTORY) or CHECKS_DIRECTORY.is_relative_to(path):
            return True
    return False


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Examine everything once, before the items exist; a usage error here exits with 4."""
    config = session.config
    if not active(config):
        return
    if config.getoption("numprocesses", None) or hasattr(config, "workerinput"):
        raise pytest.UsageError(
            "-n is refused: every worker would scan every table; the scan is one query per table"
            " and needs no workers"
        )
    environment = environment_of(config)
    settings = _settings(config, environment)
    if settings is None:
        config.stash[CASES] = {}
        return
    config.stash[SETTINGS] = settings
    # An acceptance of a check that is not made has an item of its own, which says so.
    accepted = {check for table in settings.tables for check in table.checks}
    for check in accepted | {case.check for case in cases_declared(settings)}:
        config.addinivalue_line("markers", f"{check}: the {check} check of each segment")
    if config.option.collectonly:
        config.stash[CASES] = by_fixture(cases_declared(settings))
        return
    try:
        evidence = _examine(config, settings, environment)
    except (ConnectionUrlError, UnknownNameError) as error:
        raise pytest.UsageError(for_terminal(str(error))) from None
    except CannotExamineError as error:
        stop_unexamined(config, for_terminal(str(error)))
    config.stash[EVIDENCE] = evidence
    config.stash[CASES] = by_fixture(cases_of(evidence.examination))
    run_what_is_listed(config, cases_declared(settings))


def environment_of(config: pytest.Config) -> Environment:
    """The environment of the run. Raises pytest's usage error for a broken `.env`."""
    try:
        return read_environment((config.invocation_params.dir, config.rootpath))
    except EnvironmentFileError as error:
        raise pytest.UsageError(str(error)) from None


def stop_unexamined(config: pytest.Config, message: str) -> None:
    """End the run with status 10 and say why on lines of their own."""
    config.stash[UNEXAMINED] = message
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.ensure_newline()
        reporter.section("nothing could be examined", sep="=", red=True, bold=True)
        for line in message.splitlines():
            reporter.write_line(line, red=True)
    pytest.exit("nothing could be examined", returncode=ExitStatus.NOTHING_EXAMINED)


def _settings(config: pytest.Config, environment: Mapping[str, str]) -> Settings | None:
    """The settings; None where an editor collects and no file was named or is there."""
    named = config.getoption("--config") or environment.get("INTEGRITY_CONFIG")
    if named:
        path = Path(config.invocation_params.dir, named)
    else:
        here = config.invocation_params.dir / "integrity.toml"
        path = here if here.is_file() else config.rootpath / "integrity.toml"
        if config.option.collectonly and not path.is_file():
            return None
    try:
        return load_settings(path, row_checks=ROW_CHECK_NAMES)
    except SettingsError as error:
        raise pytest.UsageError(*(for_terminal(fault) for fault in error.errors)) from None


def _examine(config: pytest.Config, settings: Settings, environment: Mapping[str, str]) -> Evidence:
    variable = settings.database.url_env
    url = environment.get(variable)
    if not url:
        raise ConnectionUrlError(
            f"the environment variable {variable} is not set; expected the URL of the database to"
            " check, in the environment or in a file .env:"
            f" {variable}=postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        )
    place = parse_url(url, variable=variable)
    selection = Selection(
        tables=config.getoption("--table"),
        tenants=tuple(config.getoption("--tenant")) if config.getoption("--tenant") else None,
    )
    examination = examine(place, settings, selection)
    return Evidence(
        settings=settings,
        environment=environment,
        place=place,
        selection=selection,
        before=examination,
        examination=examination,
    )


def by_fixture(cases: Iterable[Case]) -> dict[str, list[Case]]:
    """The cases of the tables and their rows, by the fixture that is parametrised with them."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        of_rows = "row_check" if case.beside is None else "gap_check"
        found.setdefault(FIXTURES.get(case.check, of_rows), []).append(case)
    return found


def run_what_is_listed(config: pytest.Config, listed: Iterable[Case]) -> None:
    """Have an id that `--collect-only` lists, which knows no tenant, run the items it stands for.

    `listed` are the cases that the settings alone tell.
    """
    examination = config.stash[EVIDENCE].examination
    actual = [case for cases in config.stash[CASES].values() for case in cases]
    by_id = {f"[{case.id}]": case for case in listed if case not in actual}
    arguments: list[str] = []
    for argument in config.args:
        function, bracket, rest = argument.partition("[")
        case = by_id.get(bracket + rest)
        stands_for = cases_listed_as(case, actual, examination) if case is not None else ()
        arguments += [f"{function}[{one.id}]" for one in stands_for] or [argument]
    config.args[:] = arguments


def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, obj: object
) -> list[pytest.Item] | None:
    """Make no item of a check without cases: pytest would count one that says nothing."""
    if not collector.path.is_relative_to(CHECKS_DIRECTORY) or not inspect.isfunction(obj):
        return None
    cases = collector.config.stash.get(CASES, {})
    return None if any(cases.get(name) for name in inspect.signature(obj).parameters) else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """An item per case."""
    cases = metafunc.config.stash.get(CASES, {})
    for fixture in cases.keys() & set(metafunc.fixturenames):
        metafunc.parametrize(
            fixture,
            [
                pytest.param(case, id=case.id, marks=getattr(pytest.mark, case.check))
                for case in cases[fixture]
            ],
            indirect=True,
        )


def case_of(item: pytest.Item) -> Case | None:
    """The case behind an item of ours; None for any other item."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return next((value for value in parameters.values() if isinstance(value, Case)), None)


def checked(request: pytest.FixtureRequest) -> CheckedCase:
    """The case that a fixture is parametrised with; an error or a skip without a verdict."""
    case: Case = request.param
    evidence = request.config.stash[EVIDENCE]
    judgement = judge(case, evidence.examination)
    if judgement.not_examined is not None:
        pytest.fail(for_terminal(judgement.not_examined), pytrace=False)
    if judgement.not_there is not None:
        pytest.skip(for_terminal(judgement.not_there))
    return CheckedCase(
        judgement=judgement,
        record=lambda name, value: request.node.user_properties.append((name, value)),
        provisional=case.table in evidence.provisional,
    )


table_check = pytest.fixture(name="table_check")(checked)
tenant_check = pytest.fixture(name="tenant_check")(checked)
index_check = pytest.fixture(name="index_check")(checked)
gap_check = pytest.fixture(name="gap_check")(checked)
row_check = pytest.fixture(name="row_check")(checked)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Where the run looked and how much it saw."""
    evidence = config.stash.get(EVIDENCE, None)
    if evidence is None:
        return []
    examination, server = evidence.examination, evidence.examination.server
    segments = sum(len(table.measurements) for table in examination.tables)
    rows = sum(table.rows for table in examination.tables)
    pgvector = f"pgvector {server.vector_version}" if server.vector_version else "no pgvector"
    return [
        f"examined {evidence.place.place}: PostgreSQL {server.version}, {pgvector}",
        f"{plural(len(examination.tables), 'table')}, {plural(segments, 'segment')},"
        f" {plural(rows, 'row')}"
        f" ({evidence.settings.path.name})",
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,  # noqa: ARG001
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Replace secrets in whatever a report shows; the last line of defence."""
    report = yield
    if isinstance(report.longrepr, str):
        report.longrepr = redactor.clean(report.longrepr)
    elif report.longrepr is not None and not isinstance(report.longrepr, tuple):
        text = str(report.longrepr)
        if redactor.clean(text) != text:
            report.longrepr = redactor.clean(text)
    report.sections = [(name, redactor.clean(text)) for name, text in report.sections]
    return report
