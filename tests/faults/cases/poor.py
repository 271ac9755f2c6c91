"""Cases of a run on poor ground: no report directory, little memory, a clock that jumps."""

from __future__ import annotations

import os
import stat
from functools import partial
from typing import TYPE_CHECKING

from tests.faults.cases.cuts import left
from tests.faults.provider import Provider
from tests.faults.stages.ground import Case, said
from tests.faults.stages.invariants import broken, not_whole
from tests.faults.stages.stage import TENANTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.faults.stages.ground import Ground

NO_REPORT = "wrote no report"
"""What the account calls broken, and what cannot be otherwise where no folder can be written."""
SOMEONE = 12345
"""A user that is not the one who runs this."""
MARGINS = (0, 8, 16, 32, 64, 128, 256)
"""Megabytes of address space beyond what a run has taken when its memory is limited: from what is
too little for a thread to what is enough."""
CLOCK_SECONDS = 100.0
"""Far more than such a run takes, and far less than the clock jumps."""
HOOKS = ("pytest_collection", "pytest_runtestloop")
"""Before the scans, and before the repair."""
LITTLE_MEMORY = """
import resource
import pytest

@pytest.hookimpl(tryfirst=True)
def {hook}(session):
    with open("/proc/self/statm") as pages:
        taken = int(pages.read().split()[0]) * resource.getpagesize()
    limit = taken + {margin} * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
"""
"""As `ulimit -v` does, from a moment on."""


JUMPING_CLOCK = """
import random
import time
import pytest

chance, seconds, nanoseconds = random.Random({seed}), time.time, time.time_ns

@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    time.time = lambda: seconds() + 3600 * chance.randint(-12, 12)
    time.time_ns = lambda: nanoseconds() + 3600 * 10**9 * chance.randint(-12, 12)
"""
"""The clock that others set, for us and for every library that asks for it by its name."""


def _file(folder: Path) -> None:
    (folder / "incidents").write_text("somebody's own", encoding="utf-8")


def _link(to: str, folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "incidents").symlink_to(to)


def _of_someone(folder: Path) -> None:
    (folder / "incidents").mkdir()
    os.chown(folder / "incidents", SOMEONE, SOMEONE)
    (folder / "incidents").chmod(0o777)


REPORT_DIRECTORIES: Mapping[str, tuple[Callable[[Path], None], bool]] = {
    "file": (_file, False),
    "link-to-itself": (partial(_link, "incidents"), False),
    "link-to-a-file": (partial(_link, "integrity.toml"), False),
    "link-to-what-nobody-writes": (partial(_link, "/proc/self"), False),
    "link": (partial(_link, "elsewhere"), True),
    "of-someone": (_of_someone, True),
}
"""What stands where the reports go, and whether they can be written there."""


def report_directories() -> Iterator[Case]:
    """What is no folder to write to ends the repair before it asks; any other is written to."""
    for name in REPORT_DIRECTORIES:
        # To give a folder to somebody else is root's right alone.
        if name != "of-someone" or os.geteuid() == 0:
            yield Case(name=f"reports-in-a-{name}", run=partial(_reported, name))


def memories() -> Iterator[Case]:
    """Less and less memory; whatever fails for want of it, nothing is half done."""
    for hook in HOOKS:
        for margin in MARGINS:
            name = f"memory-{margin}-from-{hook.removeprefix('pytest_')}"
            yield Case(name=name, run=partial(_remembered, hook, margin))


def clocks() -> Iterator[Case]:
    """The time of day jumps by hours each time it is asked for, while keys have to wait."""
    for fault in ("429", "429-retry-after", "503"):
        yield Case(name=f"clock-jumps-{fault}", run=partial(_clocked, fault))


def _reported(name: str, ground: Ground, seed: int) -> list[str]:
    make, writable = REPORT_DIRECTORIES[name]
    with ground.stage(seed) as stage, Provider(seed=seed) as provider:
        make(stage.folder)
        seen = ground.disturbed(stage, provider)
        wrong = [one for one in broken(seen) if writable or NO_REPORT not in one]
        if writable:
            wrong += not_whole(seen)
            for path in (stage.folder / "incidents").glob("*/**/*"):
                if stat.S_IMODE(path.stat().st_mode) & 0o077:
                    wrong.append(f"{path.name} may be read by others")
            return wrong
        if seen.run.status != 11 or "--report-dir" not in seen.run.output:
            wrong.append(f"expected status 11, and which option to use:\n{seen.run.output[-2000:]}")
        if seen.received or seen.after != seen.before:
            wrong.append("a text was sent, or a row written, without a journal")
        (stage.folder / "incidents").unlink()
        again = ground.disturbed(stage, provider)
        return wrong + said("the run after it", broken(again) + not_whole(again))


def _remembered(hook: str, margin: int, ground: Ground, seed: int) -> list[str]:
    with ground.stage(seed) as stage, Provider(seed=seed) as provider:
        plugin = stage.folder / "conftest.py"
        plugin.write_text(LITTLE_MEMORY.format(hook=hook, margin=margin), encoding="utf-8")
        seen = ground.disturbed(stage, provider, arguments=("-p", "conftest"))
        # What had no memory may have had none for its report either.
        wrong = [one for one in broken(seen) if NO_REPORT not in one]
        ground.counts[f"runs with little memory that ended with {seen.run.status}"] += 1
        if left(seen) and seen.run.status == 0:
            wrong.append("rows are left, and the run ended with 0")
        plugin.unlink()
        again = ground.disturbed(stage, provider)
        return wrong + said("the run after it", broken(again) + not_whole(again))


def _clocked(fault: str, ground: Ground, seed: int) -> list[str]:
    with ground.stage(seed) as stage, Provider(seed=seed) as provider:
        provider.script(*[None] * len(TENANTS), fault, fault)
        plugin = stage.folder / "conftest.py"
        plugin.write_text(JUMPING_CLOCK.format(seed=seed), encoding="utf-8")
        seen = ground.disturbed(stage, provider, arguments=("-p", "conftest"))
        wrong = broken(seen) + not_whole(seen)
        if seen.run.seconds > CLOCK_SECONDS:
            wrong.append(f"a wait of seconds took {seen.run.seconds:.0f} s")
        return wrong
