"""A signal that another thread takes, as one that is just being created may, ends every wait."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from checks.awake import run_aside, wait_for_all, wait_for_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest_plugins = ("pytester",)

BEGUN = 0.3
"""Seconds after which the main thread waits."""
LONG = 60.0
"""Seconds that a work goes on where nothing ends it."""


@contextmanager
def signals_taken_by_another() -> Iterator[None]:
    """Only a thread other than the main one is given SIGINT."""
    over = threading.Event()
    taker = threading.Thread(target=over.wait, daemon=True)
    taker.start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        over.set()
        taker.join()


def interrupted_work(stop: threading.Event) -> bool:
    """Interrupts the program while it waits, and says whether it was told to stop."""
    time.sleep(BEGUN)
    os.kill(os.getpid(), signal.SIGINT)
    return stop.wait(LONG)


def test_work_that_runs_aside_is_told_to_stop() -> None:
    stop = threading.Event()
    told = []
    with signals_taken_by_another(), pytest.raises(KeyboardInterrupt):
        run_aside(lambda: told.append(interrupted_work(stop)), on_interrupt=stop.set)
    assert told == [True]


def test_a_second_interrupt_reaches_the_wait_for_work_that_is_to_stop() -> None:
    told, stop, ended = threading.Event(), threading.Event(), threading.Event()
    interrupts: list[int] = []

    def interrupted(number: int, _: object) -> None:
        interrupts.append(number)
        if len(interrupts) == 2:
            stop.set()
        raise KeyboardInterrupt

    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        if told.wait(LONG) and interrupted_work(stop):
            ended.set()

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        with signals_taken_by_another(), pytest.raises(KeyboardInterrupt):
            run_aside(work, on_interrupt=told.set)
        assert ended.wait(LONG)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(interrupts) == 2


def test_work_that_an_interrupt_kept_from_beginning_never_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, begun = [], []

    def interrupted(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_aside(lambda: begun.append(True), on_interrupt=lambda: told.append(True))
    assert (told, begun) == ([True], [])


@pytest.mark.parametrize("wait", [wait_for_all, wait_for_one])
def test_a_wait_for_threads_is_ended(wait: Callable[[set[Future[None]]], object]) -> None:
    stop = threading.Event()
    told: list[bool] = []

    def work() -> None:
        told.append(interrupted_work(stop))

    with signals_taken_by_another(), ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            wait({pool.submit(work)})
        stop.set()
    assert told == [True]


def test_the_others_go_on_when_one_has_ended() -> None:
    stop = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        long, short = pool.submit(stop.wait, LONG), pool.submit(bool)
        others = wait_for_one({long, short})
        stop.set()
        wait_for_all([long, short])
    assert others == {long}


@pytest.mark.parametrize("hook", ["pytest_collection", "pytest_runtestloop"])
def test_an_interrupt_in_code_that_has_no_lines_ends_a_run_as_interrupted(
    pytester: pytest.Pytester, hook: str
) -> None:
    pytester.makeconftest(
        f"""
import pytest
pytest_plugins = ["checks.plugins.interrupts"]

@pytest.hookimpl(tryfirst=True)
def {hook}(session):
    def without_lines():
        raise KeyboardInterrupt
    without_lines.__code__ = without_lines.__code__.replace(co_linetable=b"")
    without_lines()
"""
    )
    pytester.makepyfile("def test_it(): pass")
    assert pytester.inline_run(no_reraise_ctrlc=True).ret == pytest.ExitCode.INTERRUPTED
