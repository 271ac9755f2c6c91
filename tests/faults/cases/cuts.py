"""Cases: the link is cut, halved, slow or silent, backends are ended, the server is restarted."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from tests.faults import link as links
from tests.faults.killer import Crowd, restart, terminating
from tests.faults.link import Link, Toward
from tests.faults.provider import Provider
from tests.faults.stages.ground import Case, said
from tests.faults.stages.invariants import broken, not_whole
from tests.faults.stages.rows import healthy
from tests.faults.wire import AROUND_COMMIT, FEW, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.faults.link import Action, Fate, Moment
    from tests.faults.stages.ground import Ground
    from tests.faults.stages.invariants import Seen
    from tests.faults.stages.shapes import Shape
    from tests.faults.stages.stage import Stage

SILENCE_SECONDS = 2.0
ENDLESS_SECONDS = 600.0
WAYS: Mapping[str, Action] = {
    "cut": links.cut,
    "half": links.half,
    "delay": links.delay(0.7),
    "black-hole": links.black_hole(SILENCE_SECONDS),
    "black-hole-to-server": links.black_hole(SILENCE_SECONDS, Toward.SERVER),
    "black-hole-to-client": links.black_hole(SILENCE_SECONDS, Toward.CLIENT),
}
FOREVER = links.black_hole(ENDLESS_SECONDS)
"""Nobody ends such a connection but the repair, after `connection.SILENCE_SECONDS`."""


def at_every_step() -> Iterator[Case]:
    """Each way at each step; around COMMIT again, at every one of them."""
    for step in Step:
        for way in WAYS:
            yield Case(name=f"{way}-at-{step}", run=partial(_link, step, way, 1, "hashed"))
    for step in (Step.UPDATE_SENT, Step.COMMIT_SENT, Step.COMMITTED):
        yield Case(name=f"silence-at-{step}", run=partial(_link, step, "silence", 1, "hashed"))
    for step in AROUND_COMMIT:
        run = partial(_link, step, "cut", math.inf, "hashed")
        yield Case(name=f"cut-at-every-{step}", run=run)
        for way in ("cut", "half", "black-hole"):
            run = partial(_link, step, way, 1, "stored")
            yield Case(name=f"{way}-at-{step}-of-a-store", run=run)


def terminations() -> Iterator[Case]:
    """The backend is ended, at each step, and at each COMMIT."""
    for step in Step:
        yield Case(name=f"terminate-at-{step}", run=partial(_terminated, step, 1))
    for step in AROUND_COMMIT:
        yield Case(name=f"terminate-at-every-{step}", run=partial(_terminated, step, math.inf))


def restarts() -> Iterator[Case]:
    """The server is stopped and started again, as by a crash and as by its owner."""
    for step in Step:
        yield Case(name=f"restart-at-{step}", run=partial(_restarted, step, "immediate"))
        yield Case(name=f"fast-restart-at-{step}", run=partial(_restarted, step, "fast"))


def exhaustions() -> Iterator[Case]:
    """Others take every connection that is left; a further one is refused until the run ends."""
    for step in Step:
        yield Case(name=f"exhaust-at-{step}", run=partial(_exhausted, step, links.forward))
        # What is lost then cannot be opened again.
        yield Case(name=f"exhaust-and-cut-at-{step}", run=partial(_exhausted, step, links.cut))


def _link(step: Step, way: str, times: float, shape: Shape, ground: Ground, seed: int) -> list[str]:
    with ground.stage(seed, shape=shape) as stage:
        action = FOREVER if way == "silence" else WAYS[way]
        return _disturbed(ground, stage, seed, step, action, times)


def _terminated(step: Step, times: float, ground: Ground, seed: int) -> list[str]:
    with ground.stage(seed) as stage:
        ground.counts["backends ended"] += 1
        return _disturbed(ground, stage, seed, step, terminating(stage.url), times)


def _restarted(step: Step, mode: str, ground: Ground, seed: int) -> list[str]:
    url, directory = ground.restartable

    def crash(_: Moment) -> None:
        restart(directory, mode)
        ground.counts["restarts"] += 1

    with ground.stage(seed, server=url) as stage:
        return _disturbed(ground, stage, seed, step, crash, 1)


def _exhausted(step: Step, fate: Action, ground: Ground, seed: int) -> list[str]:
    # Not the server of all cases: other sessions there are none of ours to keep out.
    url, _ = ground.restartable
    with ground.stage(seed, server=url) as stage:
        crowd = Crowd(stage.url)

        def come(moment: Moment) -> Fate | None:
            crowd.come(moment)
            return fate(moment)

        wrong = _disturbed(ground, stage, seed, step, come, 1, others=[crowd])
        return wrong + ([] if crowd.number else ["expected others to take every connection"])


def _disturbed(
    ground: Ground,
    stage: Stage,
    seed: int,
    step: Step,
    action: Action,
    times: float,
    others: Sequence[Crowd] = (),
) -> list[str]:
    nth = 1 if step in FEW else 3
    with Provider(seed=seed) as provider:
        with Link(stage.url) as link:
            link.when(step, action, nth=nth, times=times)
            seen = ground.disturbed(stage, provider, url=link.url, others=others)
            ground.counts["links disturbed"] += len(link.fired)
            wrong = broken(seen) + ([] if link.fired else ["the step never came"])
        if left(seen):
            wrong += _told(seen)
            again = ground.disturbed(stage, provider)
            wrong += said("the run after it", broken(again) + not_whole(again))
        elif seen.run.status not in (0, 11):
            wrong.append(f"every row is whole, and the run ended with {seen.run.status}")
        return wrong


def left(seen: Seen) -> list[int]:
    """Rows that are not whole after the run."""
    return [row.id for row in seen.after.values() if not healthy(row)]


def _told(seen: Seen) -> list[str]:
    """What is left must be told: by the status, and in words rather than by a traceback."""
    wrong = []
    if seen.run.status not in (1, 10, 11):
        wrong.append(f"rows are left, and the run ended with {seen.run.status}")
    if "Traceback" in seen.run.output or "INTERNALERROR" in seen.run.output:
        wrong.append(f"the run ended in a traceback:\n{seen.run.output[-3000:]}")
    return wrong
