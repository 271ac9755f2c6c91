"""Fixtures that every test may use; those of one kind live in a module of their own."""

import signal

from tests.databases import database, server_url
from tests.runs import provided_site, site

__all__ = ["database", "provided_site", "server_url", "site"]


def pytest_configure() -> None:
    """A shell that starts the tests in the background has them ignore SIGINT; some test it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
