"""Ends a run on a signal in order, from the first look at the database on.

Raises an interrupt anew at the edge of what pytest asked for, so that pytest can tell of it. Where
a signal lands in code that Python made itself, as `dataclass` does while a module is imported, the
traceback has a frame without a line; pytest 9 fails over it while it tells of the interrupt, and
the run ends as if a check had failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checks.interruption import INTERRUPTION, end_in_order
from checks.plugin import CHECKS_DIRECTORY, active
from embedding_integrity.beside import beside_others

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    config = session.config
    # Others' tests, beside which ours run, end as they always did.
    if active(config) and not beside_others(config, CHECKS_DIRECTORY):
        end_in_order(config)
    return (yield from _as_an_interrupt(config))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    try:
        return (yield from _as_an_interrupt(session.config))
    finally:
        if INTERRUPTION in session.config.stash:
            session.config.stash[INTERRUPTION].finish()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _renew(item.config)


def _as_an_interrupt(config: pytest.Config) -> Generator[None, object, object]:
    """Whatever an interrupt became on its way is an interrupt."""
    try:
        came = yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None
    except BaseException:
        _renew(config)
        raise
    _renew(config)
    return came


def _renew(config: pytest.Config) -> None:
    """An interrupt ends the run also where somebody else made an error of it, or of nothing came:
    a driver whose link was cut, pydantic in the midst of a model.
    """
    if INTERRUPTION in config.stash:
        config.stash[INTERRUPTION].renew()
