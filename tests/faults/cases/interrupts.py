"""Cases: a signal at a random moment of a run, or two, again and again on the same table.

A run that has not ended long after is made to tell where each of its threads stands.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.faults.killer import Killer
from tests.faults.provider import Provider
from tests.faults.stages.ground import Case, said
from tests.faults.stages.invariants import broken, not_whole
from tests.faults.stages.rows import healthy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.drivers.starter import Started
    from tests.faults.stages.ground import Ground
    from tests.faults.stages.stage import Run

FAILING = 30
"""Rows of each tenant that fail."""
PAUSES = (0.05, 600.0)
"""What an answer takes, in seconds: a provider that answers, and one that hangs."""
TOO_LONG = 15.0
"""Seconds from the signal to the end of the run. What is promised is 10, for a machine at rest."""
BOUNDS = (1, 2, 4, 6, 8, 10, 15)
SIGNALS = (signal.SIGINT, signal.SIGINT, signal.SIGTERM)
"""Of which chance takes one."""
TWICE = 0.2
"""The share of runs that are sent a second one, up to so many seconds after the first:"""
BETWEEN = 3.0


class Interrupter(Killer):
    """Sends one run signals, each so many seconds after the one before; SIGABRT in the end."""

    def __init__(self, *signals: tuple[signal.Signals, float]) -> None:
        super().__init__()
        self._signals = signals
        self._sent_at: float | None = None
        self._ended = threading.Event()

    def aim(self, run: Started) -> None:
        super().aim(run)
        self._aimed_at = time.monotonic()
        self._thread = threading.Thread(target=self._interrupt, args=(run,), daemon=True)
        self._thread.start()

    def _interrupt(self, run: Started) -> None:
        for number, seconds in self._signals:
            if self._ended.wait(seconds):
                return
            run.send_signal(number)
            self._sent_at = self._sent_at or time.monotonic()
        if not self._ended.wait(TOO_LONG):
            # pytest's own handler prints where every thread stands. A run that has ended gets none.
            run.send_signal(signal.SIGABRT)

    def after(self, run: Run) -> float | None:
        """Seconds that a run went on after the first signal; None where it had ended before."""
        self._ended.set()
        self._thread.join()
        seconds = None if self._sent_at is None else run.seconds - (self._sent_at - self._aimed_at)
        return None if seconds is None or seconds < 0 else seconds


def at_random(interrupts: int, *, series: int = 10) -> Iterator[Case]:
    """Signals at random moments, some in a row on the same table."""
    for begin in range(0, interrupts, series):
        count, pause = min(series, interrupts - begin), PAUSES[begin // series % len(PAUSES)]
        yield Case(
            name=f"interrupts-at-random-{begin // series + 1}", run=partial(_series, count, pause)
        )


def _series(interrupts: int, pause: float, ground: Ground, seed: int) -> list[str]:
    chance = random.Random(seed)
    wrong: list[str] = []
    with ground.stage(seed, failing=FAILING, shape=chance.choice(["plain", "hashed"])) as stage:
        with Provider(seed=seed, pause=PAUSES[0]) as provider:
            whole = stage.run(provider=provider.base_url).seconds
        with Provider(seed=seed, pause=pause) as provider:
            for number in range(1, interrupts + 1):
                if all(healthy(row) for row in stage.rows().values()):
                    stage.forget()
                signals = [(chance.choice(SIGNALS), chance.uniform(0, whole))]
                if chance.random() < TWICE:
                    signals.append((chance.choice(SIGNALS), chance.uniform(0, BETWEEN)))
                interrupter = Interrupter(*signals)
                seen = ground.disturbed(stage, provider, killer=interrupter)
                seconds = interrupter.after(seen.run)
                wrong += said(f"run {number}", broken(seen))
                if seconds is None:
                    continue
                ground.counts["interrupts"] += 1
                bound = next((str(bound) for bound in BOUNDS if seconds <= bound), "more")
                ground.counts[f"interrupts that ended a run within {bound} s"] += 1
                if seen.run.status == -signal.SIGABRT:
                    wrong.append(f"run {number} went on for {TOO_LONG} s:\n{seen.run.output}")
                elif seen.run.status not in (2, -signal.SIGINT, -signal.SIGTERM, 0):
                    wrong.append(f"run {number} ended with {seen.run.status}:\n{seen.run.output}")
        with Provider(seed=seed) as provider:
            last = ground.disturbed(stage, provider)
            wrong += said("the run after the interrupts", broken(last) + not_whole(last))
    return wrong
