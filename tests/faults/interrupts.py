"""Cases: one SIGINT at a random moment of a run, again and again on the same table.

A run that has not ended long after is made to tell where each of its threads stands.
"""

from __future__ import annotations

import random
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING

from tests.faults.ground import Case, said
from tests.faults.invariants import broken, not_whole
from tests.faults.killer import Killer
from tests.faults.provider import Provider
from tests.faults.rows import healthy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.ground import Ground
    from tests.faults.stage import Run
    from tests.starter import Started

FAILING = 30
"""Rows of each tenant that fail."""
PAUSES = (0.05, 600.0)
"""What an answer takes, in seconds: a provider that answers, and one that hangs."""
TOO_LONG = 15.0
"""Seconds from the signal to the end of the run. What is promised is 10, for a machine at rest."""
BOUNDS = (1, 2, 4, 6, 8, 10, 15)


class Interrupter(Killer):
    """Sends one run SIGINT, so long after its start; SIGABRT where that does not end it."""

    def __init__(self, delay: float) -> None:
        super().__init__()
        self._delay = delay
        self._ended = threading.Event()

    def aim(self, run: Started) -> None:
        super().aim(run)
        self._thread = threading.Thread(target=self._interrupt, args=(run,), daemon=True)
        self._thread.start()

    def _interrupt(self, run: Started) -> None:
        if self._ended.wait(self._delay):
            return
        run.send_signal(signal.SIGINT)
        if not self._ended.wait(TOO_LONG):
            # pytest's own handler prints where every thread stands. A run that has ended gets none.
            run.send_signal(signal.SIGABRT)

    def after(self, run: Run) -> float | None:
        """Seconds that a run went on after the signal; None where it had ended before."""
        self._ended.set()
        self._thread.join()
        return None if run.seconds < self._delay else run.seconds - self._delay


def at_random(interrupts: int, *, series: int = 10) -> Iterator[Case]:
    """Interrupts at random moments, some in a row on the same table."""
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
                interrupter = Interrupter(chance.uniform(0, whole))
                seen = ground.disturbed(stage, provider, killer=interrupter)
                wrong += said(f"run {number}", broken(seen))
                seconds = interrupter.after(seen.run)
                if seconds is None:
                    continue
                ground.counts["interrupts"] += 1
                bound = next((str(bound) for bound in BOUNDS if seconds <= bound), "more")
                ground.counts[f"interrupts that ended a run within {bound} s"] += 1
                if seen.run.status == -signal.SIGABRT:
                    wrong.append(f"run {number} went on for {TOO_LONG} s:\n{seen.run.output}")
                elif seen.run.status not in (2, -signal.SIGINT, 0):
                    wrong.append(f"run {number} ended with {seen.run.status}:\n{seen.run.output}")
        with Provider(seed=seed) as provider:
            last = ground.disturbed(stage, provider)
            wrong += said("the run after the interrupts", broken(last) + not_whole(last))
    return wrong
