"""Cases: SIGKILL at every step and at random moments; the next run takes up what was left."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

from tests.faults.killer import Killer
from tests.faults.link import Link
from tests.faults.provider import Provider
from tests.faults.stages.ground import Case, said
from tests.faults.stages.invariants import broken, not_whole, paid_again
from tests.faults.stages.rows import healthy
from tests.faults.stages.shapes import SHAPES
from tests.faults.stages.stage import BATCH, CONCURRENCY, TENANTS, WRITERS
from tests.faults.wire import AROUND_COMMIT, FEW, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.stages.ground import Ground
    from tests.faults.stages.invariants import Seen
    from tests.faults.stages.shapes import Shape
    from tests.faults.stages.stage import Stage

    Aim = Callable[[Killer, Link, Provider], None]
    """Says when the killer shall act."""

IN_FLIGHT = (CONCURRENCY + 2 * WRITERS) * BATCH
"""Texts that may be asked for or wait for their write at one moment."""
STEPS_PER_BATCH = 6
FAILING = 40
"""Rows of each tenant that fail where kills follow one another."""


def at_every_step() -> Iterator[Case]:
    """Kills at each named step, with the message lost or on its way, first and later."""
    for step in Step:
        for nth in (1,) if step in FEW else (1, 4):
            for name in ("at", "after"):
                yield Case(
                    name=f"kill-{name}-{step}-{nth}",
                    run=partial(_at_step, step, name, nth, "hashed"),
                )
    for step in AROUND_COMMIT:
        for name in ("at", "after"):
            run = partial(_at_step, step, name, 2, "stored")
            yield Case(name=f"kill-{name}-{step}-of-a-store", run=run)
    for number in (1, 4, 7, 12):
        yield Case(name=f"kill-at-request-{number}", run=partial(_at_request, number))


def at_random(kills: int, *, series: int = 5) -> Iterator[Case]:
    """Kills at random moments, a few in a row on the same table."""
    for begin in range(0, kills, series):
        count = min(series, kills - begin)
        yield Case(name=f"kills-at-random-{begin // series + 1}", run=partial(_series, count))


def _at_step(step: Step, name: str, nth: int, shape: Shape, ground: Ground, seed: int) -> list[str]:
    def aim(killer: Killer, link: Link, _: Provider) -> None:
        link.when(step, killer.at_step if name == "at" else killer.after_step, nth=nth)

    return _killed_once(ground, seed, aim, shape)


def _at_request(number: int, ground: Ground, seed: int) -> list[str]:
    def aim(killer: Killer, _: Link, provider: Provider) -> None:
        provider.when(number, killer.kill)

    return _killed_once(ground, seed, aim)


def _killed_once(ground: Ground, seed: int, aim: Aim, shape: Shape = "hashed") -> list[str]:
    with ground.stage(seed, shape=shape) as stage, Provider(seed=seed) as provider:
        killed, wrong = _killed(ground, stage, provider, aim)
        if killed is None:
            return [*wrong, "the moment of the kill never came"]
        return wrong + said("the run after the kill", _taken_up(ground, stage, provider, killed))


def _series(kills: int, ground: Ground, seed: int) -> list[str]:
    chance = random.Random(seed)
    wrong: list[str] = []
    kills_seen = tries = 0
    last: Seen | None = None
    with (
        ground.stage(seed, failing=FAILING, shape=random.Random(seed).choice(SHAPES)) as stage,
        Provider(seed=seed, pause=0.005) as provider,
    ):
        while kills_seen < kills and tries < 3 * kills:
            tries += 1
            left = sum(not healthy(row) for row in stage.rows().values())
            if left == 0:
                # All is repaired before the last kill: something to do again.
                stage.forget()
                last = None
                left = FAILING * len(TENANTS)
            killed, broke = _killed(ground, stage, provider, partial(_at_any, chance, left))
            wrong += said(f"run {tries}", broke)
            if killed is not None:
                kills_seen += 1
                wrong += said(f"run {tries}", _paid_twice(ground, last, killed))
                last = killed
        if kills_seen < kills:
            wrong.append(f"expected {kills} kills, {kills_seen} came in time")
        return wrong + said("the run after the kills", _taken_up(ground, stage, provider, last))


def _at_any(
    chance: random.Random, left: int, killer: Killer, link: Link, provider: Provider
) -> None:
    batches = left // BATCH + 1
    if chance.random() < 0.2:
        number = len(provider.received) + chance.randrange(1, batches + len(TENANTS))
        provider.when(number, killer.kill)
        return
    act = chance.choice([killer.at_step, killer.after_step])
    link.when(None, act, nth=chance.randrange(1, STEPS_PER_BATCH * batches))


def _killed(
    ground: Ground, stage: Stage, provider: Provider, aim: Aim
) -> tuple[Seen | None, list[str]]:
    """One run under the killer; None where the moment did not come."""
    killer = Killer()
    with Link(stage.url) as link:
        aim(killer, link, provider)
        seen = ground.disturbed(stage, provider, url=link.url, killer=killer)
    ground.counts["kills"] += killer.killed
    provider.forget()
    wrong = broken(seen)
    if killer.killed and seen.run.status != -9:
        wrong.append(f"expected a run that ended by SIGKILL, found status {seen.run.status}")
    return (seen if killer.killed else None), wrong


def _taken_up(ground: Ground, stage: Stage, provider: Provider, killed: Seen | None) -> list[str]:
    """What is wrong with the undisturbed run that follows, and with what was paid for in all."""
    last = ground.disturbed(stage, provider)
    return broken(last) + not_whole(last) + _paid_twice(ground, killed, last)


def _paid_twice(ground: Ground, killed: Seen | None, later: Seen) -> list[str]:
    """No more is paid for again than what was in flight at the kill."""
    if killed is None:
        return []
    fine = {row.body for row in later.before.values() if healthy(row)}
    again = paid_again(killed.received, later.received, fine)
    ground.counts["texts paid twice"] += again
    return (
        [f"{again} texts were paid twice, more than the {IN_FLIGHT} in flight"]
        if again > IN_FLIGHT
        else []
    )
