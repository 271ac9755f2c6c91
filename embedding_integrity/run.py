"""Runs pytest on the checks from any folder, whatever pytest's files in that folder say."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from embedding_integrity.place import CHECKS, ROOTDIR

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "embedding-integrity"
COMMAND = pytest.StashKey[tuple[str, ...]]()
"""The run as a person started it, where it was not by pytest's own name."""


def find_packages_first() -> None:
    """Let our packages be found before any of the same name in the folder of the run."""
    if sys.path[0] != str(ROOTDIR):
        sys.path.insert(0, str(ROOTDIR))


def plugin_names() -> tuple[str, ...]:
    """The plugins that our conftest.py names."""
    names: tuple[str, ...] = import_module("conftest").PLUGINS
    return names


def of_the_checks(word: str) -> bool:
    """Whether a word is a place among the checks, as pytest prints it: `checks/test_rows.py::…`."""
    return word.partition("/")[0] == CHECKS.name


def run(arguments: Sequence[str]) -> int:
    """Run the checks with these of pytest's options and ours; returns the exit status."""
    find_packages_first()
    places = [str(ROOTDIR / word) for word in arguments if of_the_checks(word)]
    status = pytest.main(
        [
            *("-c", str(ROOTDIR / "pyproject.toml"), "--rootdir", str(ROOTDIR)),
            # No conftest.py is imported: others' have no say here, and ours names these plugins.
            *("--noconftest", *(places or [str(CHECKS)])),
            *(word for word in arguments if not of_the_checks(word)),
        ],
        plugins=[_Named(arguments), *plugin_names()],
    )
    return int(status)


class _Named:
    """Tells messages and the report by which name the run was started."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = tuple(arguments)

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        parser.prog = NAME

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[COMMAND] = (NAME, *self._arguments)
        # Ids are shown as the command takes them, not as paths into the installation.
        config.cwd_relative_nodeid = lambda nodeid: nodeid  # type: ignore[method-assign]
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.startpath = config.rootpath
