"""Cases: rows are edited, deleted, inserted again and moved at full speed while a run repairs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, get_args

from tests.faults.ground import Case, said
from tests.faults.invariants import broken, not_whole
from tests.faults.link import Link
from tests.faults.provider import Provider
from tests.faults.racer import Racer
from tests.faults.stage import Shape
from tests.faults.wire import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.ground import Ground

EDITS_AT_ONCE = 150
FAILING = 40


def races(edits: int) -> Iterator[Case]:
    """As many edits as that while runs repair, for each shape of the table in turn."""
    shapes: tuple[Shape, ...] = get_args(Shape)
    for number in range(-(-edits // EDITS_AT_ONCE)):
        shape = shapes[number % len(shapes)]
        count = min(EDITS_AT_ONCE, edits - number * EDITS_AT_ONCE)
        yield Case(name=f"race-{shape}-{number + 1}", run=partial(_race, shape, count))


def _race(shape: Shape, edits: int, ground: Ground, seed: int) -> list[str]:
    made, round_, wrong = 0, 0, list[str]()
    with (
        ground.stage(seed, shape=shape, failing=FAILING) as stage,
        Provider(seed=seed, pause=0.03) as provider,
    ):
        while made < edits and round_ < 6 and not wrong:
            round_ += 1
            racer = Racer(stage, seed=seed + round_, edits=edits - made, pause=0.002)
            with racer, Link(stage.url) as link:
                link.when(Step.LOCK_TAKEN, racer.go)
                seen = ground.disturbed(stage, provider, url=link.url, racer=racer)
            made += racer.made
            wrong += said(f"race {round_}", broken(seen))
            if seen.run.status not in (0, 1, 11):
                wrong.append(f"the race ended with {seen.run.status}:\n{seen.run.output[-2000:]}")
        if made < edits:
            wrong.append(f"expected {edits} edits, {made} were made in time")
        last = ground.disturbed(stage, provider)
        return wrong + said("the run after the races", broken(last) + not_whole(last))
