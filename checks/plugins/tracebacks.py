"""Lets no frame of this project's into a traceback that pytest, or another plugin, shows.

Frames hold texts of rows and keys, which `--showlocals` and whoever reports errors would print.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checks.plugin import active, case_of
from checks.tracebacks import forget_frames

if TYPE_CHECKING:
    from collections.abc import Generator


def _bare(*, ours: bool) -> Generator[None, object, object]:
    """Whatever is raised in our modules is raised without its frames."""
    try:
        return (yield)
    # pytest's own ends have no traceback to show, or tell by it where a test was skipped.
    except (pytest.fail.Exception, pytest.skip.Exception, pytest.exit.Exception, pytest.UsageError):
        raise
    except BaseException as error:
        if not ours:
            raise
        raised = forget_frames(error)
    raise raised


@pytest.hookimpl(wrapper=True, tryfirst=True)
def _of_a_session(session: pytest.Session) -> Generator[None, object, object]:
    return (yield from _bare(ours=active(session.config)))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def _of_an_item(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _bare(ours=case_of(item) is not None))


pytest_collection = pytest_runtestloop = pytest_sessionfinish = _of_a_session
pytest_runtest_setup = pytest_runtest_call = pytest_runtest_teardown = _of_an_item


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(config: pytest.Config) -> Generator[None, object, object]:
    return (yield from _bare(ours=active(config)))
