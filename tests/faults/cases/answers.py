"""Cases: everything that a provider can do wrong, by name, and wrong answers at random."""

from __future__ import annotations

import random
import threading
from functools import partial
from typing import TYPE_CHECKING

from tests.drivers.repairs import environment, key_of, repaired, settings
from tests.faults.cases.cuts import left
from tests.faults.provider import Provider
from tests.faults.replies import HANG, LEGAL, MALFORMED, REFUSED, UNAVAILABLE
from tests.faults.stages.ground import Case, said
from tests.faults.stages.invariants import broken, not_whole, wrong_rows, wrong_texts
from tests.faults.stages.rows import healthy
from tests.faults.stages.stage import TENANTS
from tests.servers.provider_server import ProviderServer, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.stages.ground import Ground
    from tests.servers.provider_server import ReceivedRequest

DEAD = "globex"


def by_name(*, hang: bool = True) -> Iterator[Case]:
    """Each fault once, among healthy answers; and for ever, with one tenant's key or with all."""
    for fault in (*UNAVAILABLE, *MALFORMED, *LEGAL):
        yield Case(name=f"once-{fault}", run=partial(_once, fault))
    for fault in REFUSED:
        yield Case(name=f"key-{fault}", run=partial(_one_key, fault))
    for fault in MALFORMED:
        yield Case(name=f"always-{fault}", run=partial(_always, fault))
    yield Case(name="always-shuffled", run=partial(_once, "shuffled", times=100))
    if hang:
        yield Case(name="once-hang", run=partial(_once, HANG))


def malformed(answers: int, *, at_once: int = 125) -> Iterator[Case]:
    """Wrong answers at random among healthy ones, in repairs within this process."""
    for begin in range(0, answers, at_once):
        count = min(at_once, answers - begin)
        yield Case(name=f"malformed-{begin // at_once + 1}", run=partial(_malformed, count))


def _once(fault: str, ground: Ground, seed: int, *, times: int = 1) -> list[str]:
    with ground.stage(seed) as stage, Provider(seed=seed) as provider:
        # Behind the three probes, anywhere among the batches.
        healthy_first = 3 + random.Random(seed).randrange(9) if times == 1 else 0
        provider.script(*[None] * healthy_first, *[fault] * times)
        seen = ground.disturbed(stage, provider)
        ground.counts["faults of the provider"] += sum(r.fault is not None for r in seen.received)
        wrong = broken(seen) + said("after one fault", not_whole(seen))
        if fault not in {received.fault for received in seen.received}:
            wrong.append("the fault never came")
        return wrong


def _one_key(fault: str, ground: Ground, seed: int) -> list[str]:
    with ground.stage(seed) as stage, Provider(seed=seed) as provider:
        provider.trouble_for(key_of(DEAD), fault)
        seen = ground.disturbed(stage, provider)
        wrong = broken(seen)
        others = [key for key in left(seen) if seen.after[key].tenant != DEAD]
        if others or seen.run.status != 1:
            wrong.append(f"one dead key left rows {others}, status {seen.run.status}")
        asked = sum(received.key == key_of(DEAD) for received in seen.received)
        ground.counts["faults of the provider"] += asked
        if asked != 1:
            wrong.append(f"a dead key was used {asked} times")
        provider.calm()
        again = ground.disturbed(stage, provider)
        return wrong + said("the run after it", broken(again) + not_whole(again))


def _always(fault: str, ground: Ground, seed: int) -> list[str]:
    with ground.stage(seed) as stage, Provider(seed=seed) as provider:
        provider.trouble(1.0, fault)
        seen = ground.disturbed(stage, provider)
        ground.counts["faults of the provider"] += len(seen.received)
        wrong = broken(seen)
        if seen.after != seen.before:
            wrong.append("something was written, and no answer could be trusted")
        if seen.run.status not in (1, 11):
            wrong.append(f"nothing could be repaired, and the run ended with {seen.run.status}")
        provider.calm()
        again = ground.disturbed(stage, provider)
        return wrong + said("the run after it", broken(again) + not_whole(again))


def _malformed(answers: int, ground: Ground, seed: int) -> list[str]:
    chance = random.Random(seed)
    deciding = threading.Lock()
    given = 0
    wrong: list[str] = []

    def rule(_: ReceivedRequest) -> Reply | None:
        nonlocal given
        with deciding:
            if given >= answers or chance.random() < 0.4:
                return None
            given += 1
            return MALFORMED[chance.choice(sorted(MALFORMED))](chance)

    repairs = 0
    while given < answers and repairs < answers and not wrong:
        with (
            ground.stage(seed + repairs, failing=60) as stage,
            ProviderServer() as server,
        ):
            server.always(rule)
            chosen = settings(server, table={"where": None, "content_hash": "content_hash"})
            for _ in range(3):
                repairs += 1
                before, asked = stage.rows(), len(server.requests)
                done = repaired(stage.url, chosen, stage.folder, keys=environment(*TENANTS))
                after = stage.rows()
                wrong += wrong_rows(before, after)
                received = server.requests[asked:]
                wrong += wrong_texts(received, before, stage.owners, raced=True)
                open_rows = sum(not healthy(row) for row in after.values())
                if not done.results:
                    continue
                counts = done.counts()
                not_fixed = counts["selected"] - counts.get("fixed", 0)
                if open_rows != not_fixed:
                    wrong.append(f"{open_rows} rows are not whole, and the account is {counts}")
    ground.counts["malformed answers"] += given
    ground.counts["repairs within the process"] += repairs
    return wrong
