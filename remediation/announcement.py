"""Words what a repair says on the terminal: the plan, the progress and the results.

Decides nothing.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tqdm import tqdm

from checks.findings.finding import tenant_words
from checks.wording import dollars, plural
from remediation.journal.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from _pytest._io import TerminalWriter

    from remediation.journal.outcomes import RowName
    from remediation.table_repair.estimate import Estimate
    from remediation.table_repair.plan import Plan, TablePlan
    from remediation.table_repair.result import TableRepair

TENANTS_SHOWN = 20
GROUPS_SHOWN = 20
NEARLY = 1.25
"""Within this factor, a time is not told anew."""
STEPS = 10
"""Progress lines where there is no terminal to draw a bar on."""


def plan_lines(plan: Plan, *, place: str, dry_run: bool) -> Iterator[str]:
    """The plan for a person: what, where, how much, and what will not be done."""
    yield f"writes to {place}"
    yield from plan.notes
    if not plan.tables:
        yield "nothing to repair: no row fails a check that re-embedding heals"
        return
    for table in plan.tables:
        yield from _table_lines(table, plan)
    yield (
        f"in all {plural(plan.rows, 'row')}, {plural(plan.requests, 'request')},"
        f" {plural(plan.tokens, 'token')},"
        f" {dollars(plan.dollars)}, {duration(plan.seconds)}{_rests_on(plan)}"
    )
    if plan.capped:
        yield plan.capped
    if dry_run:
        yield "dry run: nothing was written and no provider was called"


def _rests_on(plan: Plan) -> str:
    """What the time rests on: of the table that takes the longest."""
    estimates = [table.estimate for table in plan.tables if table.estimate and table.requests]
    if not estimates:
        return ""
    return f" ({max(estimates, key=lambda one: one.seconds).source})"


def time_after_probe(planned: TablePlan, estimate: Estimate) -> str | None:
    """How long a table takes from its probe on; None where the plan said nearly the same."""
    if planned.seconds / NEARLY <= estimate.seconds <= planned.seconds * NEARLY:
        return None
    return f"{planned.table}: {duration(estimate.seconds)} from here, {estimate.source}"


def _table_lines(table: TablePlan, plan: Plan) -> Iterator[str]:
    if table.unrepairable is not None:
        yield f"{table.table}: {plural(table.failing, 'row')} not repaired: {table.unrepairable}"
        return
    yield (
        f"{table.table}: {plural(table.rows, 'row')} in {plural(table.requests, 'request')} and"
        f" {table.probe_requests:,} to probe, about {table.tokens + table.probe_tokens:,} tokens"
        f" ({table.counted}), {dollars(plan.dollars_of(table.tokens + table.probe_tokens))},"
        f" model {table.model}"
    )
    requests, tokens = table.second_look
    if requests:
        yield (
            f"  where the probe disagrees, at most {plural(requests, 'request')} more to look"
            f" again, about {plural(tokens, 'token')}"
        )
    for line in table.tenants[:TENANTS_SHOWN]:
        words = f"  {tenant_words(line.tenant)}: {plural(line.rows, 'row')}"
        if line.missing_key is None:
            own = f", at {line.host}" if line.host else ""
            own += f", model {line.model!r}" if line.model else ""
            yield (
                f"{words}, {plural(line.requests, 'request')}, {plural(line.tokens, 'token')}{own}"
            )
        else:
            yield f"{words} cannot be repaired: {line.missing_key}"
    if len(table.tenants) > TENANTS_SHOWN:
        yield f"  … and {plural(len(table.tenants) - TENANTS_SHOWN, 'more tenant')}"
    if table.without_text:
        yield f"  {plural(table.without_text, 'row')} without text to embed: would be quarantined"
    if table.quarantined:
        yield (
            f"  {plural(table.quarantined, 'row')} quarantined in an earlier run, not sent again"
            " (--retry-quarantined sends them)"
        )
    if table.in_vain:
        why = "; ".join(dict.fromkeys(table.hopeless.values()))
        yield f"  {plural(table.in_vain, 'row')} not sent: {why}"
    for words in table.cut:
        yield f"  {words}"


def result_lines(
    results: Sequence[TableRepair], texts: Mapping[RowName, str] | None = None
) -> Iterator[str]:
    """The results of a repair, a line per table, and the reasons why rows were not fixed.

    Below a reason comes how the `texts` of some of its rows begin, where they are given.
    """
    for result in results:
        account = result.account
        yield from _lines_of_the_rest(result, Outcome.FIXED, texts)
        if result.stopped:
            yield f"{result.table}: the repair stopped early: {result.stopped}"
        counts = {outcome: account.count(outcome) for outcome in Outcome}
        errors = counts[Outcome.FAILED] + counts[Outcome.QUARANTINED]
        rest = "".join(
            f", {counts[outcome]:,} {outcome}"
            for outcome in (Outcome.SUPERSEDED, Outcome.SKIPPED)
            if counts[outcome]
        )
        yield (
            f"{result.table}: {counts[Outcome.FIXED]:,}/{account.selected:,} rows re-embedded,"
            f" {errors:,} errors{rest}"
        )


def put_back_lines(results: list[TableRepair], *, dry_run: bool) -> Iterator[str]:
    """The results of a rollback, or of its dry run, in the form of `result_lines`."""
    for result in results:
        account = result.account
        yield from _lines_of_the_rest(result, Outcome.RESTORED)
        if result.stopped and dry_run:
            yield f"{result.table}: nothing would be put back: {result.stopped}"
        elif result.stopped:
            yield f"{result.table}: the rollback stopped early: {result.stopped}"
        counts = {outcome: account.count(outcome) for outcome in Outcome}
        rest = "".join(
            f", {counts[outcome]:,} {outcome}"
            for outcome in (Outcome.SUPERSEDED, Outcome.SKIPPED, Outcome.FAILED)
            if counts[outcome]
        )
        yield (
            f"{result.table}: {counts[Outcome.RESTORED]:,}/{account.selected:,} rows"
            f" {'would be put back' if dry_run else 'put back'}{rest}"
        )


def _lines_of_the_rest(
    result: TableRepair, done: Outcome, texts: Mapping[RowName, str] | None = None
) -> Iterator[str]:
    """The rows of a table with another outcome, and why."""
    texts = texts or {}
    left = [group for group in result.account.groups if group.outcome is not done]
    for group in left[:GROUPS_SHOWN]:
        yield (
            f"{result.table}: {plural(group.rows, 'row')} of {tenant_words(group.tenant)}"
            f" {group.outcome}: {group.reason}"
        )
        for key in group.sample_keys:
            if (text := texts.get((result.table, key))) is not None:
                yield f"  {', '.join(key)}: {text!r}"
    if len(left) > GROUPS_SHOWN:
        rows = sum(group.rows for group in left[GROUPS_SHOWN:])
        yield f"{result.table}: … and {rows:,} more rows, of other tenants or for other reasons"


def duration(seconds: float) -> str:
    """A rough time in words."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"


class Progress:
    """Shows a bar on a terminal, and a line at every tenth elsewhere.

    Where the output can no longer be written, the work goes on silently.
    """

    def __init__(self, total: int, writer: TerminalWriter, *, what: str = "repair") -> None:
        self._total = total
        self._writer = writer
        self._settled = 0
        self._bar = (
            tqdm(total=total, unit=" rows", desc=what, file=self, dynamic_ncols=True)
            if writer.hasmarkup
            else None
        )

    def write(self, text: str) -> None:
        """Called by the bar, which draws on a file-like object."""
        with suppress(OSError):
            self._writer.write(text, flush=True)

    def flush(self) -> None:
        """Called by the bar."""
        with suppress(OSError):
            self._writer.flush()

    def settled(self, outcome: Outcome) -> None:  # noqa: ARG002 - every outcome moves the bar
        """One more row has its outcome."""
        before, self._settled = self._settled, self._settled + 1
        if self._bar is not None:
            self._bar.update(1)
        elif self._total and before * STEPS // self._total < self._settled * STEPS // self._total:
            # Rows may have been added since the plan was made.
            done = min(self._settled, self._total)
            share = 100 * done // self._total
            self._line(f"settled {done:,} of {self._total:,} rows ({share} %)")

    def say(self, line: str) -> None:
        """Write a line of its own; a bar is drawn again below it."""
        if self._bar is not None:
            self._bar.clear()
        self._line(line)
        if self._bar is not None:
            self._bar.refresh()

    def _line(self, line: str) -> None:
        with suppress(OSError):
            self._writer.line(line, flush=True)

    def close(self) -> None:
        """Draw the bar a last time."""
        if self._bar is not None:
            self._bar.close()
