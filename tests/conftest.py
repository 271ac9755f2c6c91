"""Fixtures that every test may use; those of one kind live in a module of their own."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from checks.expectations import engine
from checks.redaction import redactor
from tests.databases import (
    OLD,
    SERVERS,
    bare_database,
    database,
    each_database,
    old_database,
    old_server_url,
    server_url,
)
from tests.drivers.runs import provided_site, site, starter
from tests.drivers.workers import shared_site

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from great_expectations import ExpectationSuite
    from great_expectations.core import ExpectationSuiteValidationResult

__all__ = [
    "bare_database",
    "database",
    "each_database",
    "old_database",
    "old_server_url",
    "provided_site",
    "server_url",
    "shared_site",
    "site",
    "starter",
]


settings.register_profile("modest", max_examples=8)
settings.register_profile("full", max_examples=60)
# Unless the command line names another one: `make test-full` does.
settings.load_profile("modest")


@pytest.fixture(autouse=True)
def secrets_of_one_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test made a secret: a generated one may stand in what the next one expects."""
    monkeypatch.setattr(redactor, "_by_ending", redactor._by_ending.copy())


@pytest.fixture(scope="session", autouse=True)
def great_expectations() -> Iterator[None]:
    """Import Great Expectations before any test: what pytester's own tests import, it takes out of
    `sys.modules` at their end, and numpy's modules cannot be imported twice.

    Each question is put to it once: its answer takes longer than all else that is done with a small
    table, and depends on nothing but the suite and the frame.
    """
    engine.load()
    ask = engine.validate_frame
    answers: dict[str, ExpectationSuiteValidationResult] = {}

    def validate_frame(
        suite: ExpectationSuite, frame: pd.DataFrame, *, segments_seen: int
    ) -> ExpectationSuiteValidationResult:
        question = repr([suite.expectations, frame.to_dict("list"), segments_seen])
        if question not in answers:
            answers[question] = ask(suite, frame, segments_seen=segments_seen)
        return answers[question]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine, "validate_frame", validate_frame)
        yield


def pytest_report_header() -> str:
    """Where the old server has no wheel, a person shall see that it was not tried."""
    return f"servers: {'; '.join(SERVERS)}"


def pytest_configure(config: pytest.Config) -> None:
    """A shell that starts the tests in the background has them ignore SIGINT; some test it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "thorough: takes long; `make test-full` alone runs it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, and count as such, what this run or this machine is not for.

    Those are tests of the old server where it cannot be installed, and thorough ones unless they
    are asked for, by the profile of Hypothesis or by name.
    """
    named = config.getoption("keyword") or any("::" in argument for argument in config.args)
    brief = config.getoption("--hypothesis-profile", None) != "full" and not named
    left_out = [
        item
        for item in items
        if (OLD not in SERVERS and "old_server_url" in getattr(item, "fixturenames", ()))
        or (brief and item.get_closest_marker("thorough") is not None)
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
