"""Words what a repair says on the terminal while it goes on, and its results.

Decides nothing.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from tqdm import tqdm

from checks.findings.finding import tenants_words
from checks.wording import number, plural
from remediation.journal.outcomes import Outcome
from remediation.plan_table import TENANTS_NAMED, duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from _pytest._io import TerminalWriter

    from remediation.journal.outcomes import OutcomeGroup, RowName
    from remediation.table_repair.planning.estimate import Estimate
    from remediation.table_repair.planning.plan import TablePlan
    from remediation.table_repair.result import TableRepair

GROUPS_SHOWN = 20
NEARLY = 1.25
"""Within this factor, a time is not told anew."""
STEPS = 10
"""Progress lines where there is no terminal to draw a bar on."""


def time_after_probe(planned: TablePlan, estimate: Estimate) -> str | None:
    """How long a table takes from its probe on; None where the plan said nearly the same."""
    if planned.seconds / NEARLY <= estimate.seconds <= planned.seconds * NEARLY:
        return None
    return f"{planned.table}: {duration(estimate.seconds)} from here, {estimate.source}"


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
        if result.not_begun:
            rest += f", {result.not_begun:,} not begun"
        yield (
            f"{result.table}: {counts[Outcome.FIXED]:,}/{account.selected + result.not_begun:,}"
            f" rows re-embedded, {plural(errors, 'error')}{rest}"
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
    left: dict[tuple[Outcome, str], list[OutcomeGroup]] = {}
    for group in result.account.groups:
        # Why the work ended is said once; the last line counts the rows that it left.
        said = group.outcome is Outcome.SKIPPED and group.reason == result.stopped and not texts
        if group.outcome is not done and group.rows and not said:
            left.setdefault((group.outcome, group.reason), []).append(group)
    for (outcome, reason), groups in islice(left.items(), GROUPS_SHOWN):
        rows = plural(sum(group.rows for group in groups), "row")
        yield f"{result.table}: {rows} of {_tenants(groups)} {outcome}: {reason}"
        for key in (key for group in groups for key in group.sample_keys):
            if (text := texts.get((result.table, key))) is not None:
                yield f"  {', '.join(key)}: {text!r}"
    if len(left) > GROUPS_SHOWN:
        more = islice(left.values(), GROUPS_SHOWN, None)
        rest = sum(group.rows for groups in more for group in groups)
        yield f"{result.table}: … and {plural(rest, 'more row')}, for other reasons"


def _tenants(groups: Sequence[OutcomeGroup]) -> str:
    return tenants_words([group.tenant for group in groups], most=TENANTS_NAMED)


class Progress:
    """Shows a bar on a terminal, and a line at every tenth elsewhere.

    Where the output can no longer be written, the work goes on silently.
    """

    def __init__(self, total: int, writer: TerminalWriter, *, what: str = "repair") -> None:
        self._total = total
        self._writer = writer
        self._counts: Counter[Outcome] = Counter()
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

    def settled(self, outcome: Outcome) -> None:
        """One more row has its outcome."""
        before = self._tried
        self._counts[outcome] += 1
        if self._bar is not None:
            self._bar.set_postfix_str(self._words, refresh=False)
            self._bar.update(1)
        elif self._total and before * STEPS // self._total < self._tried * STEPS // self._total:
            self._line(f"{self._words} of {plural(self._total, 'row')}")

    @property
    def _tried(self) -> int:
        """Rows whose turn came: the others need no line of their own, the results count them."""
        # Rows may have been added since the plan was made.
        return min(self._counts.total() - self._counts[Outcome.SKIPPED], self._total)

    @property
    def _words(self) -> str:
        """How many rows came to which outcome."""
        return ", ".join(f"{number(rows)} {outcome}" for outcome, rows in self._counts.items())

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
