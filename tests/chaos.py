"""The long form of the fault suite: `make chaos`, or `python -m tests.chaos --seed N`.

Runs every case of `tests.faults` at its full number, on workers with servers of their own, and ends
with what was done and what broke. `make test` runs a few of the same cases, in
`tests/faults/test_chaos.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import queue
import random
import sys
import time
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from tests.faults.cases import answers, beside, crowds, cuts, interrupts, kills, poor, races
from tests.faults.stages.ground import Ground

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.process import BaseProcess
    from multiprocessing.queues import Queue

    from tests.faults.stages.ground import Case

KILLS = 100
INTERRUPTS = 100
INTERLEAVINGS = 10_000
MALFORMED = 1_000
EDITS = 1_000
KILLED_RACES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What came of a case."""

    name: str
    wrong: tuple[str, ...]
    counts: dict[str, int]
    seconds: float


def all_cases() -> list[Case]:
    """Every case, at its full number."""
    return [
        *kills.at_every_step(),
        *cuts.at_every_step(),
        *cuts.terminations(),
        *cuts.restarts(),
        *cuts.exhaustions(),
        *answers.by_name(),
        *races.races(EDITS),
        *races.killed_races(KILLED_RACES),
        *beside.loads(),
        *poor.report_directories(),
        *poor.memories(),
        *poor.clocks(),
        *answers.malformed(MALFORMED),
        *kills.at_random(KILLS),
        *interrupts.at_random(INTERRUPTS),
        *crowds.interleavings(INTERLEAVINGS),
    ]


def seed_of(seed: int, name: str) -> int:
    """The case's own seed: the same whether it runs alone or among others."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big")


def command(seed: int, name: str) -> str:
    """What repeats a case."""
    return f"python -m tests.chaos --seed {seed} --only {name}"


def tried(ground: Ground, case: Case, seed: int) -> Result:
    """Run one case; what it raises is what is wrong with it."""
    ground.counts.clear()
    begun = time.monotonic()
    try:
        wrong = case.run(ground, seed_of(seed, case.name))
    except Exception:
        wrong = [traceback.format_exc()]
    return Result(
        name=case.name,
        wrong=tuple(wrong),
        counts=dict(ground.counts),
        seconds=time.monotonic() - begun,
    )


def _work(seed: int, only: str, waiting: Queue[str | None], results: Queue[Result]) -> None:
    """One worker: a ground of its own, and cases by their names until there are no more."""
    cases = {case.name: case for case in _chosen(only)}
    with Ground() as ground:
        while (name := waiting.get()) is not None:
            results.put(tried(ground, cases[name], seed))


def _chosen(only: str) -> list[Case]:
    return [case for case in all_cases() if fnmatchcase(case.name, only)]


def run(seed: int, only: str, workers: int) -> int:
    """Run the cases, telling of each; the exit status."""
    chosen = _chosen(only)
    if not chosen:
        print(f"expected a case whose name is like {only!r}, found none; --list names them")
        return 1
    print(f"seed {seed}: {len(chosen)} cases on {workers} workers", flush=True)
    context = multiprocessing.get_context("spawn")
    waiting: Queue[str | None] = context.Queue()
    results: Queue[Result] = context.Queue()
    for name in [case.name for case in chosen]:
        waiting.put(name)
    team = []
    for _ in range(min(workers, len(chosen))):
        waiting.put(None)
        team.append(context.Process(target=_work, args=(seed, only, waiting, results)))
        team[-1].start()
    begun = time.monotonic()
    counts: Counter[str] = Counter()
    failed: list[Result] = []
    for number in range(1, len(chosen) + 1):
        result = _next(results, team)
        counts.update(result.counts)
        verdict = "broken" if result.wrong else "holds"
        elapsed = time.monotonic() - begun
        print(
            f"[{number}/{len(chosen)}, {elapsed / 60:.0f} min] {result.name}: {verdict}"
            f" ({result.seconds:.1f} s)",
            flush=True,
        )
        if result.wrong:
            failed.append(result)
            for words in result.wrong:
                print(f"    {words}", flush=True)
            print(f"    repeat: {command(seed, result.name)}", flush=True)
    for worker in team:
        worker.join()
    print(f"\nseed {seed}, {(time.monotonic() - begun) / 60:.1f} minutes")
    for name, count in sorted(counts.items()):
        print(f"{count:>8,} {name}")
    print(f"{len(chosen) - len(failed):>8,} cases hold, {len(failed):,} are broken")
    for result in failed:
        print(f"broken: {result.name}; repeat: {command(seed, result.name)}")
    return 1 if failed else 0


def _next(results: Queue[Result], team: Sequence[BaseProcess]) -> Result:
    """The next result. Raises RuntimeError where no worker is left to give one."""
    while True:
        alive = any(worker.is_alive() for worker in team)
        with suppress(queue.Empty):
            return results.get(timeout=5)
        if not alive:
            raise RuntimeError("expected a result of every case, every worker has ended")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. 0 where every case holds, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="random by default, and printed")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="cases with such a name")
    parser.add_argument("--workers", type=int, default=2, help="cases at one time")
    parser.add_argument("--list", action="store_true", help="name the cases and end")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(case.name for case in _chosen(options.only)))
        return 0
    seed = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed
    return run(seed, options.only, options.workers)


if __name__ == "__main__":
    sys.exit(main())
