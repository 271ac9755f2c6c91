"""Words the last screen of a run: a line per failing check and table, and what to type next.

Text only; `terminal_plugin` writes it.
"""

from __future__ import annotations

import sys
from datetime import UTC
from types import MappingProxyType
from typing import TYPE_CHECKING

from checks.columns import in_columns, wide
from checks.examination.suspicion import shown
from checks.findings.finding import tenant_words
from checks.wording import number, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from checks.diagnosis.diagnosis import Diagnosis
    from checks.examination.examination import Examination
    from reports.terminal.failing_checks import FailingCheck

LINES_SHOWN = 10
"""Failing checks on the last screen, which has 24 lines on the smallest terminal."""
TENANTS_SHOWN = 10
HEAD = ("check", "table", "failing", "of rows", "tenants", "created (UTC)")


def summary_lines(
    failing: Sequence[FailingCheck],
    examination: Examination,
    *,
    width: int,
    diagnoses: Mapping[str, Diagnosis] = MappingProxyType({}),
) -> Iterator[tuple[str, str | None]]:
    """The table of what does not hold: a line and its colour each, and what they come to.

    `diagnoses`, by table, tell when most of the failing rows were created.
    """
    shown_ones = failing[:LINES_SHOWN]
    of_rows = [line for line in shown_ones if line.failing is not None]
    if of_rows:
        rows = [HEAD, *(_cells(line) for line in of_rows)]
        # A name of a table is worth more than its times in the same line, while there is room.
        too_wide = max(map(wide, in_columns(rows, width=sys.maxsize))) > width
        beneath = too_wide and len(of_rows) <= LINES_SHOWN // 2
        if beneath:
            rows = [row[:-1] for row in rows]
        head, *lines = in_columns(rows, width=width, right=(2, 3, 4), cut=(1,))
        yield head, None
        untold = dict(diagnoses)
        for line, text in zip(of_rows, lines, strict=True):
            yield text, "red" if line.severity == "error" else "yellow"
            if line.found:
                yield f"  found: {shown(line.found)}", None
            if (mostly := _mostly(untold.pop(line.table, None))) is not None:
                yield f"  {mostly}", None
            elif beneath and (created := period(line.since, line.until)):
                yield f"  created {created} UTC", None
    for line in shown_ones:
        if line.failing is None:
            colour = "red" if line.severity == "error" else "yellow"
            for says in line.says[:TENANTS_SHOWN]:
                yield f"{line.check}: {says}", colour
    if len(failing) > len(shown_ones):
        yield f"… and {plural(len(failing) - len(shown_ones), 'more check')}, listed above", None
    for note in dict.fromkeys(note for line in shown_ones for note in line.notes):
        yield note, "yellow"
    if any(not line.sampled for line in of_rows):
        yield _in_all(examination), None


def _cells(line: FailingCheck) -> tuple[str, ...]:
    assert line.failing is not None
    rows = f"{line.uncounted} {number(line.rows)}" if line.uncounted else number(line.rows)
    rows += " sampled" if line.sampled else ""
    return (
        line.check,
        line.table.removeprefix("public."),
        number(line.failing),
        rows,
        "" if line.tenants is None else f"{number(len(line.worst))}/{number(line.tenants)}",
        period(line.since, line.until),
    )


def _mostly(diagnosis: Diagnosis | None) -> str | None:
    """When most failing rows were created; None where it is as long as all of them took."""
    if diagnosis is None or diagnosis.window is None:
        return None
    window, failing = diagnosis.window, diagnosis.found.failing
    if window.failing == failing:
        return None
    when = period(window.first, window.last)
    return f"created mostly {when}: {number(window.failing)} of {number(failing)}"


def _in_all(examination: Examination) -> str:
    """How many rows fail any check, each counted once: a row may fail several."""
    affected = [table for table in examination.tables if table.affected]
    tenants = {m.segment.tenant for table in affected for m in table.measurements if m.affected}
    known = {m.segment.tenant for table in examination.tables for m in table.measurements}
    rows = sum(table.rows for table in examination.tables)
    there = sum(not table.target.absent for table in examination.tables)
    at_least = any(m.at_least for table in affected for m in table.measurements)
    return (
        f"in all {'at least ' if at_least else ''}"
        f"{number(sum(table.affected for table in affected))} of {plural(rows, 'row')},"
        f" of {number(len(tenants))} of {plural(len(known), 'tenant')},"
        f" in {number(len(affected))} of {plural(there, 'table')}"
    )


def period(since: datetime | None, until: datetime | None) -> str:
    """From when to when, to the minute where it is within days, else to the day."""
    if since is None or until is None:
        return ""
    since, until = (
        time.astimezone(UTC) if time.tzinfo is not None else time for time in (since, until)
    )
    year = "" if since.year == until.year else " %Y"
    if since == until:
        return f"{since:%d %b %Y %H:%M}"
    if since.date() == until.date():
        return f"{since:%d %b %H:%M} to {until:%H:%M}"
    if (until - since).days > 7:
        return f"{since:%d %b{year}} to {until:%d %b %Y}"
    return f"{since:%d %b %H:%M} to {until:%d %b %H:%M}"


def title(line: FailingCheck) -> str:
    """The head of a failing check's own lines."""
    return f"{line.check} of {line.table}"


def detail_lines(line: FailingCheck) -> Iterator[str]:
    """A failing check in full: how many rows, whose, and the statement that shows them."""
    if len(line.worst) == 1:
        yield line.worst[0].line
    elif line.failing is not None:
        rows = plural(line.rows, "sampled row" if line.sampled else "row")
        counted = f"{number(line.failing)} of {rows}"
        when = period(line.since, line.until)
        yield f"{counted} {line.says[0]}{f', created {when} UTC' if when else ''}"
        if line.tenants is not None:
            yield from _tenants(line)
    if line.found:
        yield f"found: {shown(line.found, 10)}"
    if line.query is not None:
        yield f"show them with:\n{line.query}"


def _tenants(line: FailingCheck) -> Iterator[str]:
    named = [
        f"{tenant_words(one.tenant).removeprefix('tenant ')}"
        f" {number(one.failing)} of {number(one.rows)}"
        for one in line.worst[:TENANTS_SHOWN]
    ]
    more = len(line.worst) - len(named)
    rest = f" and {plural(more, 'more tenant')} (--report writes all of them)" if more > 0 else ""
    yield f"tenants: {', '.join(named)}{rest}"
