"""Adds `--gx-dir` to pytest, which writes what was judged as a Great Expectations project.

Thin: `checks.examination.gx_project` decides what is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checks.errors import IntegrityError
from checks.items.stash import RUN_CONTEXT
from checks.plugin import active
from checks.redaction import for_terminal

if TYPE_CHECKING:
    from collections.abc import Generator

    from _pytest.terminal import TerminalReporter

WRITTEN = pytest.StashKey["Path | str"]()
"""Where the project is, or why there is none."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("embedding integrity")
    group.addoption(
        "--gx-dir",
        metavar="DIR",
        help="also write suites and results as a Great Expectations project in this folder",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a folder that is not ours before anything is examined."""
    if not config.getoption("--gx-dir") or not active(config):
        return
    from checks.examination.gx_project import ForeignProjectError, require_ours

    try:
        require_ours(_folder(config))
    except ForeignProjectError as error:
        raise pytest.UsageError(for_terminal(str(error))) from None


def _folder(config: pytest.Config) -> Path:
    return Path(config.invocation_params.dir, config.getoption("--gx-dir"))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the last state of what was examined: after a repair, the one measured again."""
    config = session.config
    context = config.stash.get(RUN_CONTEXT, None)
    if context is None or not config.getoption("--gx-dir") or config.option.collectonly:
        return
    from checks.examination.gx_project import write_project

    unwritten = "the Great Expectations project was not written: "
    if exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR):
        config.stash[WRITTEN] = f"{unwritten}the run was cut short"
        return
    try:
        config.stash[WRITTEN] = write_project(_folder(config), context.examination.tables)
    except (OSError, IntegrityError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        config.stash[WRITTEN] = f"{unwritten}{reason}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    """Say where the project is, below pytest's own summaries."""
    yield
    written = config.stash.get(WRITTEN, None)
    if isinstance(written, Path):
        terminalreporter.write_line(for_terminal(f"Great Expectations project: {written}"))
    elif written is not None:
        terminalreporter.write_line(for_terminal(written), red=True)
