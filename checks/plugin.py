"""Connects the checks with pytest: options, one examination at collection, an item per case.

Imports late what its hooks need, so that `pytest --help` and a usage error do not wait for it.
"""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checks.errors import SettingsError
from checks.exit_status import ExitStatus
from checks.items.stash import CASES, RUN_CONTEXT, UNEXAMINED
from checks.redaction import for_terminal, redactor
from checks.settings.check_names import TABLE_CHECKS
from checks.settings.environment import (
    Environment,
    EnvironmentFileError,
    read_environment,
    settings_file,
)
from checks.wording import plural
from embedding_integrity.beside import beside_others, stand_aside

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from datetime import timedelta
    from decimal import Decimal

    from checks.items.cases import Case
    from checks.items.checked_case import CheckedCase
    from checks.settings.integrity_toml import Settings

PARTS_LISTED = 20
"""Lines about tables of which a run looked at a part; the reports have them all."""

CHECKS_DIRECTORY = Path(__file__).resolve().parent
HYPOTHESIS = "hypothesispytest"
"""The pytest plugin that Hypothesis brings, where the project's own tests are installed."""


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
    group.addoption(
        "--since",
        type=_duration,
        metavar="DURATION",
        help='examine and repair only rows that changed within this time, such as "2 days"',
    )
    group.addoption(
        "--sample",
        type=_percent,
        metavar="PERCENT",
        help="read the vectors of this share of the rows only; not with --remediate",
    )


def _duration(text: str) -> timedelta:
    from checks.settings.values import parse_duration

    try:
        return parse_duration(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(str(fault)) from None


def _percent(text: str) -> Decimal:
    from checks.scanning.sample import parse_percent

    try:
        return parse_percent(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(str(fault)) from None


def pytest_configure(config: pytest.Config) -> None:
    """Refuse workers before any is started, unless others' tests want them; exits with 4."""
    for name in TABLE_CHECKS:
        config.addinivalue_line("markers", f"{name}: the {name} check of a table")
    if getattr(config.option, "markers", False):
        # --markers reads no settings: the built-in checks are listed, whichever a table has.
        from checks.row_checks.rules import ROW_CHECK_NAMES

        for name in ROW_CHECK_NAMES:
            config.addinivalue_line("markers", f"{name}: the {name} check of each segment")
    if not active(config) or beside_others(config, CHECKS_DIRECTORY):
        return
    _refuse_workers(config)
    if config.pluginmanager.has_plugin(HYPOTHESIS):
        # At the end of every run it would import all of Hypothesis, for half a second.
        config.pluginmanager.unregister(name=HYPOTHESIS)


def _refuse_workers(config: pytest.Config) -> None:
    # pytest-xdist's -n, and its --tx, which names the workers one by one.
    workers = config.getoption("numprocesses", None) or config.getoption("tx", None)
    if workers or hasattr(config, "workerinput"):
        raise pytest.UsageError(
            "-n is refused: every worker would scan every table; the scan is one query per table"
            " and needs no workers"
        )


def active(config: pytest.Config) -> bool:
    """Whether the checks are among what pytest was asked to collect."""
    for argument in config.args:
        path = Path(config.invocation_params.dir, str(argument).partition("::")[0]).resolve()
        if path.is_relative_to(CHECKS_DIRECTORY) or CHECKS_DIRECTORY.is_relative_to(path):
            return True
    return False


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Examine everything once, before the items exist; a usage error here exits with 4.

    Beside others' tests a failing test says what is wrong, and theirs go on.
    """
    config = session.config
    if not active(config):
        return
    try:
        _refuse_workers(config)
        environment = environment_of(config)
        settings = _settings(config, environment)
        if settings is None:
            return
        from checks.items.collection import collect

        collect(config, environment, settings)
    except (pytest.UsageError, pytest.exit.Exception) as error:
        status = getattr(error, "returncode", None) or ExitStatus.USAGE_ERROR
        reason = config.stash.get(UNEXAMINED, None) or "\n".join(map(str, error.args))
        if not stand_aside(config, CHECKS_DIRECTORY, reason, status):
            raise


def _settings(config: pytest.Config, environment: Mapping[str, str]) -> Settings | None:
    """The settings; None where an editor collects and no file was named or is there."""
    from checks.row_checks.rules import ROW_CHECK_NAMES
    from checks.settings.integrity_toml import load_settings

    named = config.getoption("--config")
    path = settings_file(named, environment, (config.invocation_params.dir, config.rootpath))
    asked_for = named or environment.get("INTEGRITY_CONFIG")
    if config.option.collectonly and not asked_for and not path.is_file():
        return None
    try:
        return load_settings(path, row_checks=ROW_CHECK_NAMES)
    except SettingsError as error:
        raise pytest.UsageError(*(for_terminal(fault) for fault in error.errors)) from None


def environment_of(config: pytest.Config) -> Environment:
    """The environment of the run. Raises pytest's usage error for a broken `.env`."""
    try:
        return read_environment((config.invocation_params.dir, config.rootpath))
    except EnvironmentFileError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, obj: object
) -> list[pytest.Item] | None:
    """Make no item for a check without cases: pytest would count an empty one as skipped."""
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
    from checks.items.cases import Case

    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return next((value for value in parameters.values() if isinstance(value, Case)), None)


def checked(request: pytest.FixtureRequest) -> CheckedCase:
    """The case that a fixture is parametrised with; an error or a skip without a verdict."""
    from checks.items.collection import checked_case

    return checked_case(request)


table_check = pytest.fixture(name="table_check")(checked)
tenant_check = pytest.fixture(name="tenant_check")(checked)
index_check = pytest.fixture(name="index_check")(checked)
gap_check = pytest.fixture(name="gap_check")(checked)
row_check = pytest.fixture(name="row_check")(checked)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say where the run looked and how much it saw."""
    context = config.stash.get(RUN_CONTEXT, None)
    if context is None:
        return []
    examination, server = context.examination, context.examination.server
    segments = sum(len(table.measurements) for table in examination.tables)
    rows = sum(table.rows for table in examination.tables)
    estimated = any(table.unlisted.rows is not None for table in examination.tables)
    partly = [f"{t.target.name}: {words}" for t in examination.tables for words in t.looked_at]
    if len(partly) > PARTS_LISTED:
        partly[PARTS_LISTED:] = [f"… and {len(partly) - PARTS_LISTED:,} more such lines"]
    absent = sum(table.target.absent for table in examination.tables)
    pgvector = f"pgvector {server.vector_version}" if server.vector_version else "no pgvector"
    return [
        f"examined {context.place.place}: PostgreSQL {server.version}, {pgvector}",
        *([context.place.note] if context.place.note else []),
        f"{plural(len(examination.tables) - absent, 'table')},"
        f"{f' {absent} not there yet,' if absent else ''} {plural(segments, 'segment')},"
        f" {'about ' if estimated else ''}{plural(rows, 'row')}"
        f" ({context.settings.path.name})",
        *(line for words in partly for line in for_terminal(words).splitlines()),
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
