"""Cases: a run beside an application under load, watched from outside."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.faults.link import Link
from tests.faults.provider import Provider
from tests.faults.racer import Racer
from tests.faults.stages.ground import Case, said
from tests.faults.stages.invariants import broken, not_whole
from tests.faults.stages.shapes import SHAPES
from tests.faults.watch import Clients, Watch, named
from tests.faults.wire import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.stages.ground import Ground
    from tests.faults.stages.shapes import Shape

FAILING = 25
EDITS = 100_000
"""More than are made in a run: the racer goes on to its end."""
PAUSE = 0.03
"""Seconds that an answer takes."""
CLIENTS = 4
HOLDS = (0.01, 0.2, 0.8)
"""How long the application's transactions hold their rows, in seconds: the last is beyond what a
write of ours waits for a lock."""
LONGEST_WAIT = 0.5
"""Seconds that nobody may wait for a lock, and no transaction be idle, on a busy machine too."""
LONGEST_SNAPSHOT = 1.0
"""The same for a snapshot: a scan of the whole table has one."""
BOUNDS = (0.1, 0.2, 0.3, 0.4, LONGEST_WAIT, LONGEST_SNAPSHOT)


def loads() -> Iterator[Case]:
    """Each shape of the table, beside short and long transactions."""
    for shape in SHAPES:
        for hold in HOLDS:
            yield Case(name=f"load-{shape}-{hold}", run=partial(_loaded, shape, hold))


def _loaded(shape: Shape, hold: float, ground: Ground, seed: int) -> list[str]:
    with (
        ground.stage(seed, shape=shape, failing=FAILING) as stage,
        Provider(seed=seed, pause=PAUSE) as provider,
    ):
        racer = Racer(stage, seed=seed, edits=EDITS, pause=0.002)
        with (
            racer,
            Clients(stage.url, seed=seed, number=CLIENTS, hold=hold) as clients,
            Watch(stage.url) as watch,
            Link(stage.url) as link,
        ):
            link.when(Step.PAGE_SENT, racer.go)
            seen = ground.disturbed(
                stage, provider, url=named(link.url), racer=racer, others=(watch, clients)
            )
        for kind, seconds in watch.longest.items():
            bound = next((str(bound) for bound in BOUNDS if seconds <= bound), "more")
            ground.counts[f"loads in which {kind} for at most {bound} s"] += 1
        wrong = broken(seen) + watch.over(snapshots=LONGEST_SNAPSHOT, others=LONGEST_WAIT)
        if not (racer.made and clients.transactions and watch.sessions):
            wrong.append("expected an application at work, and sessions of the run to be seen")
        if seen.run.status not in (0, 1, 11):
            wrong.append(f"the run ended with {seen.run.status}:\n{seen.run.output[-2000:]}")
        last = ground.disturbed(stage, provider)
        return wrong + said("the run after the load", broken(last) + not_whole(last))
