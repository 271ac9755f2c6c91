"""Adds `--canary` to pytest: an item per segment, and one round of sampling for all of them.

Thin: `checks.canary` decides what is sampled and how it is judged. Imports late what its hooks
need, as `checks.plugin` does.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from checks.items.stash import CASES, RUN_CONTEXT, SETTINGS
from checks.plugin import active, case_of, checked, environment_of
from checks.redaction import for_terminal
from checks.settings.check_names import CANARIES

if TYPE_CHECKING:
    from checks.canary.drift import Wanted
    from checks.canary.run import CanaryRun
    from checks.canary.sampler import SampleEmbedder
    from checks.examination.examination import Examination
    from checks.examination.table_examination import TableExamination
    from checks.items.cases import Case
    from checks.items.checked_case import CheckedCase

CANARY: pytest.StashKey[CanaryRun] = pytest.StashKey()
"""Outlives the fixtures, which end with each pass."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("embedding integrity")
    group.addoption(
        "--canary",
        action="store_true",
        help="also embed a sample again (drift) and search through the indexes (retrieval)",
    )


def pytest_configure(config: pytest.Config) -> None:
    for name in CANARIES:
        config.addinivalue_line("markers", f"{name}: the {name} check of each segment's sample")
    if config.getoption("--canary") and active(config):
        from checks.canary.run import SEED_VARIABLE, CanaryRun

        written = environment_of(config).get(SEED_VARIABLE)
        if written is not None and not re.fullmatch(r"[0-9]{1,18}", written):
            raise pytest.UsageError(
                f"{SEED_VARIABLE} is {written!r}; expected a whole number, such as the one that an"
                " earlier run printed"
            )
        config.stash[CANARY] = CanaryRun(
            seed=int(written) if written is not None else int(f"{datetime.now(UTC):%Y%m%d}"),
            say=lambda line: _say(config, line),
        )


def pytest_collection(session: pytest.Session) -> None:
    """Add a case per canary and segment, after the examination has made the other cases."""
    config = session.config
    if CANARY not in config.stash or SETTINGS not in config.stash:
        return
    from checks.items.cases import Case
    from checks.items.collection import run_what_is_listed

    declared = {
        f"{check}_check": [
            Case(check=check, table=name)
            for name, table in config.stash[SETTINGS].named_tables
            if table.check_settings(check).enabled and (check == "drift" or table.index)
        ]
        for check in CANARIES
    }
    if config.option.collectonly:
        config.stash[CASES] |= declared
        return
    examination = config.stash[RUN_CONTEXT].examination
    config.stash[CASES] |= {f"{check}_check": _cases(examination, check) for check in CANARIES}
    run_what_is_listed(config, [case for cases in declared.values() for case in cases])


def _cases(examination: Examination, check: str) -> list[Case]:
    from checks.items.cases import SEGMENTS_WITH_ITEMS, Case

    tables = [table for table in examination.tables if _applies(table, check)]
    segments = Counter[str]()
    for table in tables:
        segments[table.target.entry] += len(table.measurements)
    cases: list[Case] = []
    for table in tables:
        by_table = segments[table.target.entry] > SEGMENTS_WITH_ITEMS
        if by_table or not table.measurements or table.part.leaves_out(check):
            cases.append(Case(check=check, table=table.target.name))
        else:
            cases += [
                Case(
                    check=check,
                    table=table.target.name,
                    tenant=measurement.segment.tenant,
                    whole_table=False,
                )
                for measurement in table.measurements
            ]
    return cases


def _applies(table: TableExamination, check: str) -> bool:
    if table.target.absent or not table.target.declared.check_settings(check).enabled:
        return False
    from checks.canary.retrieval import searchable

    return check == "drift" or searchable(table.target)


@pytest.fixture(scope="session")
def drift_looked(request: pytest.FixtureRequest, embedder: SampleEmbedder) -> None:
    """Sample every segment that has an item: once, and again after a repair."""
    context, canary = request.config.stash[RUN_CONTEXT], request.config.stash[CANARY]
    if canary.drift is None:
        wanted = _wanted(request.session, context.examination, "drift")
        canary.look_for_drift(context, embedder, wanted)
    else:
        canary.look_again(context, embedder)


@pytest.fixture(scope="session")
def retrieval_looked(request: pytest.FixtureRequest) -> None:
    """Search once with every segment's sample; a repair does not change what an index finds."""
    context, canary = request.config.stash[RUN_CONTEXT], request.config.stash[CANARY]
    canary.search(context, _wanted(request.session, context.examination, "retrieval"))


@pytest.fixture
def drift_check(
    request: pytest.FixtureRequest,
    drift_looked: None,  # noqa: ARG001 - it has looked
) -> CheckedCase:
    """The drift of a segment, or of a table."""
    return checked(request)


@pytest.fixture
def retrieval_check(
    request: pytest.FixtureRequest,
    retrieval_looked: None,  # noqa: ARG001 - it has looked
) -> CheckedCase:
    """The retrieval of a segment, or of a table."""
    return checked(request)


def _wanted(session: pytest.Session, examination: Examination, check: str) -> list[Wanted]:
    """The segments of the items that will run: what -k and -m leave out costs nothing."""
    tenants: dict[str, list[str | None]] = {}
    for item in session.items:
        case = case_of(item)
        if case is None or case.check != check:
            continue
        table = examination.table(case.table)
        if not table.measured or table.part.leaves_out(check):
            continue
        own = tenants.setdefault(case.table, [])
        if case.whole_table:
            own += [measurement.segment.tenant for measurement in table.measurements]
        else:
            own.append(case.tenant)
    return [(examination.table(name), own) for name, own in tenants.items() if own]


def _say(config: pytest.Config, line: str) -> None:
    """Write a line while a fixture is set up, when pytest captures what is printed."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    if reporter is None:
        return
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        reporter.ensure_newline()
        reporter.write_line(for_terminal(line))
