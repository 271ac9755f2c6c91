"""Fixtures that every test may use; those of one kind live in a module of their own."""

import signal

import pytest
from hypothesis import settings

from checks.examination.engine import load
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
from tests.runs import provided_site, site, starter
from tests.workers import shared_site

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


settings.register_profile("modest", max_examples=12)
settings.register_profile("full", max_examples=60)
# Unless the command line names another one: `make test-full` does.
settings.load_profile("modest")


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Import Great Expectations before any test: what pytester's own tests import, it takes out of
    `sys.modules` at their end, and numpy's modules cannot be imported twice.
    """
    load()


def pytest_report_header() -> str:
    """Where the old server has no wheel, a person shall see that it was not tried."""
    return f"servers: {'; '.join(SERVERS)}"


def pytest_configure() -> None:
    """A shell that starts the tests in the background has them ignore SIGINT; some test it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of the old server are left out, and counted as such, where it cannot be installed."""
    if OLD in SERVERS:
        return
    left_out = [item for item in items if "old_server_url" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
