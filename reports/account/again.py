"""Says the exact command that takes a next step: this run's, with the options that it needs now."""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from remediation.run.repair_run import RepairRun

FLAGS = ("--remediate", "--dry-run", "--retry-quarantined")
"""Options of one run, which the next does without unless it asks for them."""
VALUED = ("--rollback", "--max-rows", "--max-cost")
"""The same, with a value; a cap of this run is dropped only where the next one has its own."""


def again(words: Sequence[str], *options: str) -> str:
    """The command of a run with other options of a repair, as a shell takes it."""
    dropped = {"--rollback", *(option.partition("=")[0] for option in options)}.intersection(VALUED)
    kept: list[str] = []
    skip = False
    for word in words:
        name, _, value = word.partition("=")
        if skip:
            skip = False
        elif name in dropped:
            skip = not value
        elif word not in FLAGS:
            kept.append(word)
    return shlex.join((*kept, *options))


def commands_for(next_step: str, words: Sequence[str], run: RepairRun) -> Iterator[str]:
    """The commands that a next step names, in full; none where it names none."""
    if "--remediate --dry-run" in next_step:
        yield again(words, "--remediate", "--dry-run")
    elif "--max-rows" in next_step and run.plan is not None:
        # Enough for all; what is fixed already is not taken up again.
        most = max(run.plan.selected, 2 * run.plan.max_rows)
        yield again(words, "--remediate", f"--max-rows={most}")
    elif "--max-cost" in next_step and run.plan is not None:
        cents = math.ceil(100 * max(run.plan.dollars, 2 * run.plan.max_cost))
        yield again(words, "--remediate", f"--max-cost={cents / 100:g}")
    elif "--remediate" in next_step:
        yield again(words, "--remediate")
    elif "run pytest" in next_step:
        yield again(words)
    if "--retry-quarantined" in next_step:
        yield again(words, "--remediate", "--retry-quarantined")
