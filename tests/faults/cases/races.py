"""Cases: rows are edited, deleted, inserted again and moved at full speed while a run repairs."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

from tests.faults.killer import Killer
from tests.faults.link import Link
from tests.faults.provider import Provider
from tests.faults.racer import Racer
from tests.faults.stages.ground import Case, said
from tests.faults.stages.invariants import broken, not_whole
from tests.faults.stages.shapes import SHAPES
from tests.faults.wire import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.stages.ground import Ground
    from tests.faults.stages.invariants import Seen
    from tests.faults.stages.shapes import Shape
    from tests.faults.stages.stage import Stage

EDITS_AT_ONCE = 150
FAILING = 40
PAUSE = 0.03
"""Seconds that an answer takes, in which rows are edited."""
MOST_RACES = 6


def races(edits: int) -> Iterator[Case]:
    """As many edits as that while runs repair, for each shape of the table in turn."""
    for number in range(-(-edits // EDITS_AT_ONCE)):
        shape = SHAPES[number % len(SHAPES)]
        count = min(EDITS_AT_ONCE, edits - number * EDITS_AT_ONCE)
        yield Case(name=f"race-{shape}-{number + 1}", run=partial(_race, shape, count))


def killed_races(number: int) -> Iterator[Case]:
    """Races in which the repair is killed: what an edit left half done stays so to be seen."""
    for one in range(1, number + 1):
        yield Case(name=f"race-killed-{one}", run=_killed)


def _race(shape: Shape, edits: int, ground: Ground, seed: int) -> list[str]:
    made, round_, wrong = 0, 0, list[str]()
    with (
        ground.stage(seed, shape=shape, failing=FAILING) as stage,
        Provider(seed=seed, pause=PAUSE) as provider,
    ):
        while made < edits and round_ < MOST_RACES and not wrong:
            round_ += 1
            seen = _raced(ground, stage, provider, seed + round_, edits - made)
            made += sum(change.made for change in seen.raced)
            wrong += said(f"race {round_}", broken(seen))
            if seen.run.status not in (0, 1, 11):
                wrong.append(f"the race ended with {seen.run.status}:\n{seen.run.output[-2000:]}")
        if made < edits:
            wrong.append(f"expected {edits} edits, {made} were made in time")
        last = ground.disturbed(stage, provider)
        return wrong + said("the run after the races", broken(last) + not_whole(last))


def _killed(ground: Ground, seed: int) -> list[str]:
    nth = random.Random(seed).randrange(20, 150)
    with (
        ground.stage(seed, shape="plain", failing=FAILING) as stage,
        Provider(seed=seed, pause=PAUSE) as provider,
    ):
        killer = Killer()
        seen = _raced(ground, stage, provider, seed, 10 * EDITS_AT_ONCE, killer, nth)
        ground.counts["kills"] += killer.killed
        wrong = broken(seen) + ([] if killer.killed else ["the moment of the kill never came"])
        last = ground.disturbed(stage, provider)
        return wrong + said("the run after the kill", broken(last) + not_whole(last))


def _raced(
    ground: Ground,
    stage: Stage,
    provider: Provider,
    seed: int,
    edits: int,
    killer: Killer | None = None,
    nth: int = 0,
) -> Seen:
    """One run beside a racer; with a killer, until that step."""
    racer = Racer(stage, seed=seed, edits=edits, pause=0.002)
    with racer, Link(stage.url) as link:
        link.when(Step.LOCK_TAKEN, racer.go)
        if killer is not None:
            link.when(None, killer.after_step, nth=nth)
        return ground.disturbed(stage, provider, url=link.url, racer=racer, killer=killer)
