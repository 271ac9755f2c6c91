"""What a repair says on the terminal."""

from __future__ import annotations

import io
import os
import re
from contextlib import suppress
from dataclasses import replace

import pytest
from _pytest._io import TerminalWriter

from remediation.announcement import Progress, result_lines, time_after_probe
from remediation.journal.outcomes import Account, Outcome
from remediation.plan_table import duration, plan_lines
from remediation.selection.batching import FailingRow
from remediation.table_repair.planning.estimate import Estimate, Rates
from remediation.table_repair.planning.plan import Plan, TablePlan, TenantPlan
from remediation.table_repair.result import TableRepair


def _plan(*tables: TablePlan, max_rows: int = 100) -> Plan:
    return Plan(tables=tables, price_per_million_tokens=0.02, max_rows=max_rows, max_cost=25.0)


def _tenant(name: str | None, rows: int, missing_key: str | None = None) -> TenantPlan:
    return TenantPlan(tenant=name, rows=rows, requests=1, tokens=10 * rows, missing_key=missing_key)


def _table(*tenants: TenantPlan) -> TablePlan:
    return TablePlan(
        table="public.docs",
        model="m",
        tenants=tenants,
        probe_requests=2,
        probe_tokens=30,
        without_text=4,
        quarantined=2,
        counted="estimated",
        estimate=Estimate(
            rates=Rates(
                per_request=0.5, per_row=0.001, requests_known=4, source="assuming 0.5 s a request"
            ),
            probe_requests=2,
            requests=17,
            rows=800,
            concurrency=8,
            writers=2,
            begins_alone=True,
        ),
    )


def _lines(plan: Plan, *, dry_run: bool = True) -> list[str]:
    return list(plan_lines(plan, place="database 'x'", dry_run=dry_run))


def test_a_plan_says_where_what_and_how_much() -> None:
    lines = _lines(
        _plan(_table(_tenant("acme", 1200), _tenant("globex", 3, "no key")), max_rows=2000)
    )
    assert lines == [
        "writes to database 'x'",
        "                  rows  requests  tokens      cost",
        "public.docs      1,200         3  12,030  $0.00024  model m",
        "  tenant 'acme'  1,200         1  12,000",
        "  to probe                     2      30            healthy rows",
        "about 2 s (assuming 0.5 s a request); tokens estimated",
        "public.docs: 3 rows of tenant 'globex' cannot be repaired: no key",
        "public.docs: 4 rows without text to embed: would be quarantined",
        "public.docs: 2 rows quarantined in an earlier run, not sent again"
        " (--retry-quarantined sends them)",
        "dry run: nothing was written and no provider was called",
    ]


def test_what_keeps_many_tenants_from_their_keys_is_one_line() -> None:
    lines = _lines(_plan(_table(*[_tenant(f"t{n}", 2, "no key was found") for n in range(30)])))
    (line,) = [line for line in lines if "no key" in line]
    assert "60 rows of tenants 't0', 't1'" in line
    assert "and 25 more cannot be repaired: no key was found" in line


def test_two_tables_have_a_sum_and_their_estimate_is_explained_once() -> None:
    table = _table(_tenant("acme", 12))
    lines = _lines(_plan(table, replace(table, table="public.notes")))
    assert [line.split() for line in lines if line.startswith("in all")] == [
        ["in", "all", "24", "6", "300", "under", "$0.00001"]
    ]
    assert sum("estimated" in line for line in lines) == 1


def test_the_time_is_told_anew_only_where_the_probe_took_much_more_or_less() -> None:
    planned = _table(_tenant("acme", 12))
    assert planned.estimate is not None
    slow, usual = (planned.estimate.after_probe(seconds) for seconds in (12.0, 1.2))
    assert time_after_probe(planned, slow) == (
        "public.docs: about 7 s from here, at 2.3 s a request by its probe"
    )
    assert time_after_probe(planned, usual) is None


def test_a_plan_of_nothing_says_so_and_a_cap_is_named() -> None:
    assert _lines(_plan(), dry_run=False)[-1].startswith("nothing to repair")
    lines = _lines(_plan(_table(_tenant("acme", 12)), max_rows=5), dry_run=False)
    assert lines[-1] == "the cap of 5 rows would stop the repair early (--max-rows)"


def test_of_many_tenants_the_largest_are_listed_and_the_rest_counted() -> None:
    lines = _lines(_plan(_table(*[_tenant(f"t{n}", 1) for n in range(25)])))
    assert sum(line.startswith("  tenant") for line in lines) == 20
    (rest,) = [line for line in lines if "5 more tenants" in line]
    assert rest.split()[-3:] == ["5", "5", "50"]


def _result(stopped: str | None = None, *, planned: int = 0, **rows: int) -> TableRepair:
    account = Account()
    for name, count in rows.items():
        for number in range(count):
            account.selected += 1
            row = FailingRow(
                key=(str(number),),
                tenant=f"t{number % 30}",
                text="",
                text_hash="",
                vector_hash=None,
                checks=(),
            )
            account.add(row, Outcome(name), "" if name == "fixed" else f"why {name}")
    return TableRepair(table="public.docs", account=account, planned=planned, stopped=stopped)


def test_the_last_line_says_how_many_of_how_many() -> None:
    assert list(result_lines([_result(fixed=382)])) == [
        "public.docs: 382/382 rows re-embedded, 0 errors"
    ]
    lines = list(result_lines([_result("a cap", fixed=5, failed=1, quarantined=1, skipped=2)]))
    assert lines[-2:] == [
        "public.docs: the repair stopped early: a cap",
        "public.docs: 5/9 rows re-embedded, 2 errors, 2 skipped",
    ]
    assert "public.docs: 1 row of tenant 't0' failed: why failed" in lines
    once = list(result_lines([_result("why skipped", fixed=5, skipped=2)]))
    assert once == [
        "public.docs: the repair stopped early: why skipped",
        "public.docs: 5/7 rows re-embedded, 0 errors, 2 skipped",
    ]
    *_, last = result_lines([_result("an interrupt", planned=3_000, fixed=5, failed=1)])
    assert last == "public.docs: 5/3,000 rows re-embedded, 1 error, 2,994 not begun"


def test_one_reason_of_many_tenants_is_one_line() -> None:
    first, last = result_lines([_result(failed=60)])
    assert first.startswith("public.docs: 60 rows of tenants 't0', 't1'")
    assert first.endswith("and 25 more failed: why failed")
    assert last == "public.docs: 0/60 rows re-embedded, 60 errors"


def test_without_a_terminal_progress_is_a_line_at_every_tenth() -> None:
    written = io.StringIO()
    progress = Progress(40, TerminalWriter(written))
    for number in range(45):  # five more than planned
        progress.settled(Outcome.FAILED if number % 2 else Outcome.FIXED)
    progress.close()
    lines = written.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0] == "2 fixed, 2 failed of 40 rows"
    assert lines[9] == "20 fixed, 20 failed of 40 rows"


def test_rows_whose_turn_never_came_are_no_progress() -> None:
    written = io.StringIO()
    progress = Progress(153, TerminalWriter(written))
    for number in range(153):
        progress.settled(Outcome.FAILED if number < 50 else Outcome.SKIPPED)
    assert written.getvalue().splitlines() == [
        "16 failed of 153 rows",
        "31 failed of 153 rows",
        "46 failed of 153 rows",
    ]


def test_on_a_terminal_progress_is_a_bar() -> None:
    written = io.StringIO()
    writer = TerminalWriter(written)
    writer.hasmarkup = True
    progress = Progress(2, writer)
    progress.settled(Outcome.FIXED)
    progress.settled(Outcome.FIXED)
    progress.close()
    assert "2/2" in written.getvalue()


@pytest.mark.parametrize("bar", [False, True])
def test_a_pause_is_a_line_of_its_own_and_the_progress_goes_on(bar: bool) -> None:
    written = io.StringIO()
    writer = TerminalWriter(written)
    writer.hasmarkup = bar
    progress = Progress(2, writer)
    progress.settled(Outcome.FIXED)
    progress.say("the repair is paused: too much")
    said = written.getvalue()
    assert re.search(r"(^|[\r\n])the repair is paused: too much\n", said)
    progress.settled(Outcome.FIXED)
    progress.close()
    after = written.getvalue().partition("too much\n")[2]
    assert ("2/2" if bar else "2 fixed of 2 rows") in after


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "about 1 s"), (89, "about 89 s"), (600, "about 10 min"), (7200, "about 2.0 h")],
)
def test_a_time_is_said_roughly(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize("markup", [True, False])
def test_progress_that_nobody_reads_any_more_does_not_end_the_work(markup: bool) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with suppress(BrokenPipeError), open(writing, "w", encoding="utf-8") as terminal:  # noqa: PTH123
        writer = TerminalWriter(terminal)
        writer.hasmarkup = markup
        progress = Progress(2, writer)
        for _ in range(2):
            progress.settled(Outcome.FIXED)
        progress.say("the repair is paused")
        progress.close()
        with pytest.raises(BrokenPipeError):
            terminal.flush()
