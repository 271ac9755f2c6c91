"""Raises an interrupt anew at the edge of what pytest asked for, so that pytest can tell of it.

Where a signal lands in code that Python made itself, as `dataclass` does while a module is
imported, the traceback has a frame without a line; pytest 9 fails over it while it tells of the
interrupt, and the run ends as if a check had failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    try:
        return (yield)
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop() -> Generator[None, object, object]:
    try:
        return (yield)
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None
