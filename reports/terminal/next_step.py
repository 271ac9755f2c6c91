"""Says what to type next, once a run has ended: the command, and what it will do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from checks.wording import dollars, plural
from embedding_integrity.run import COMMAND
from remediation.run.checks_to_heal import repairable_checks
from remediation.table_repair.planning.plan import refusal
from reports.account.again import again
from reports.account.left import GRANT, left_of, mend

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

    from checks.examination.run_context import RunContext
    from remediation.run.repair_run import RepairRun
    from reports.terminal.failing_checks import FailingCheck

STEPS = 3
"""Next steps that are told, those of the most rows first; the report has them all."""


def next_steps(
    config: pytest.Config,
    context: RunContext,
    run: RepairRun | None,
    failing: Sequence[FailingCheck],
) -> Iterator[str]:
    """The next command, with what it does; none where every check holds."""
    if run is not None and run.dry_run:
        yield from _after_plan(run, _words(config))
        return
    if run is not None:
        # With its own words for what each outcome asks for.
        left = Counter[tuple[str, tuple[str, ...]]]()
        for line in left_of(context.examination, run, _words(config)):
            left[line.next_step, line.commands] += line.rows or 1
        said: set[str] = set()
        for (step, commands), _ in left.most_common(STEPS):
            yield f"next: {step}"
            yield from (f"    {command}" for command in commands if command not in said)
            said.update(commands)
        return
    if not failing:
        return
    if any(line.check == "schema" for line in failing):
        yield f"next: correct {context.settings.path.name}, or the table, and run the same again"
    mendable = [
        table
        for table in context.examination.tables
        if repairable_checks(table) and refusal(table) is None
    ]
    if mendable:
        yield "next, to see what a repair would do and cost:"
        yield f"    {again(_words(config), '--remediate', '--dry-run')}"


def _after_plan(run: RepairRun, words: Sequence[str]) -> Iterator[str]:
    if run.plan is None or not run.plan.tables:
        return
    refused = {one.table: one.unrepairable for one in run.plan.tables if one.unrepairable}
    grants = [grant for why in refused.values() for grant in GRANT.findall(why)]
    steps = list(dict.fromkeys(mend(table, why) for table, why in refused.items()))[:STEPS]
    if run.plan.rows:
        yield from (f"next: {step}" for step in steps)
        yield from (f"    {grant}" for grant in grants[:STEPS])
        cost = dollars(run.plan.dollars)
        yield f"next, to repair {plural(run.plan.rows, 'row')}, at an estimated cost of {cost}:"
        yield f"    {again(words, '--remediate')}"
    else:
        if any(one.rows_without_key for one in run.plan.tables):
            steps.append("give these tenants keys")
        step = ", ".join(steps) or "mend what keeps these rows from being repaired"
        yield f"next: {step}, then see the plan again:"
        yield from (f"    {grant}" for grant in grants[:STEPS])
        yield f"    {again(words, '--remediate', '--dry-run')}"


def _words(config: pytest.Config) -> tuple[str, ...]:
    """The command of this run."""
    return config.stash.get(COMMAND, ("pytest", *map(str, config.invocation_params.args)))
