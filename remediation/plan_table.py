"""Words the plan of a repair for a terminal: a table of what it takes, and what will not be done.

Decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checks.columns import in_columns
from checks.findings.finding import tenant_words, tenants_words
from checks.wording import dollars, number, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from remediation.table_repair.planning.plan import Plan, TablePlan, TenantPlan

TENANTS_SHOWN = 20
TENANTS_NAMED = 5
"""Tenants that a line about many of them names."""
HEAD = ("", "rows", "requests", "tokens", "cost", "")


def plan_lines(plan: Plan, *, place: str, dry_run: bool, width: int = 80) -> Iterator[str]:
    """The plan for a person: what, where, how much, and what will not be done."""
    yield f"writes to {place}"
    yield from plan.notes
    if not plan.tables:
        yield "nothing to repair: no row fails a check that re-embedding heals"
        return
    repaired = [table for table in plan.tables if table.unrepairable is None]
    if repaired:
        rows = [HEAD, *(row for table in repaired for row in _rows(table, plan))]
        if len(repaired) > 1:
            rows.append(_row("in all", plan, plan.rows, plan.requests, plan.tokens, ""))
        yield from in_columns(rows, width=width, right=(1, 2, 3, 4), cut=(0,), narrowest=30)
        if plan.requests:
            yield f"{duration(plan.seconds)}{_rests_on(plan)}; {_counted(plan)}"
    yield from unrepaired_lines(plan)
    for table in repaired:
        yield from _left(table)
    if plan.capped:
        yield plan.capped
    if dry_run:
        yield "dry run: nothing was written and no provider was called"


def _rows(table: TablePlan, plan: Plan) -> Iterator[tuple[str, ...]]:
    """A table, its tenants with the most rows, and its probe."""
    requests = table.requests + table.probe_requests
    tokens = table.tokens + table.probe_tokens
    yield _row(table.table, plan, table.rows, requests, tokens, f"model {table.model}")
    sent = [line for line in table.tenants if line.missing_key is None]
    for line in sent[:TENANTS_SHOWN]:
        at, model = line.host and f"at {line.host}", line.model and f"model {line.model}"
        own = ", ".join(filter(None, (at, model)))
        yield _tenant(tenant_words(line.tenant), (line,), own)
    if more := sent[TENANTS_SHOWN:]:
        yield _tenant(plural(len(more), "more tenant"), more)
    if table.probe_requests:
        probe = (number(table.probe_requests), number(table.probe_tokens))
        yield "  to probe", "", *probe, "", "healthy rows"


def _tenant(name: str, lines: Sequence[TenantPlan], note: str = "") -> tuple[str, ...]:
    counts = (
        sum(line.rows for line in lines),
        sum(line.requests for line in lines),
        sum(line.tokens for line in lines),
    )
    return f"  {name}", *map(number, counts), "", note


def _row(
    name: str, plan: Plan, rows: int, requests: int, tokens: int, note: str
) -> tuple[str, ...]:
    return (
        name,
        number(rows),
        number(requests),
        number(tokens),
        dollars(plan.dollars_of(tokens)),
        note,
    )


def _rests_on(plan: Plan) -> str:
    """What the time rests on: of the table that takes the longest."""
    estimates = [table.estimate for table in plan.tables if table.estimate and table.requests]
    if not estimates:
        return ""
    return f" ({max(estimates, key=lambda one: one.seconds).source})"


def _counted(plan: Plan) -> str:
    """How tokens were counted, once for all tables that count alike."""
    ways = dict.fromkeys(table.counted for table in plan.tables if table.counted)
    return f"tokens {' and '.join(ways)}"


def unrepaired_lines(plan: Plan) -> Iterator[str]:
    """The tables of which no row is repaired, and why."""
    for table in plan.tables:
        if table.unrepairable is not None:
            rows = plural(table.failing, "row")
            yield f"{table.table}: {rows} not repaired: {table.unrepairable}"


def _left(table: TablePlan) -> Iterator[str]:
    """What of a table that is repaired is left, each cause once."""
    causes: dict[str, list[TenantPlan]] = {}
    for line in table.tenants:
        if line.missing_key is not None:
            causes.setdefault(line.missing_key, []).append(line)
    for cause, lines in causes.items():
        rows = plural(sum(line.rows for line in lines), "row")
        named = tenants_words([line.tenant for line in lines], most=TENANTS_NAMED)
        yield f"{table.table}: {rows} of {named} cannot be repaired: {cause}"
    requests, tokens = table.second_look
    if requests:
        yield (
            f"{table.table}: where the probe disagrees, at most {plural(requests, 'request')} more"
            f" to look again, about {plural(tokens, 'token')}"
        )
    if table.without_text:
        rows = plural(table.without_text, "row")
        yield f"{table.table}: {rows} without text to embed: would be quarantined"
    if table.quarantined:
        yield (
            f"{table.table}: {plural(table.quarantined, 'row')} quarantined in an earlier run, not"
            " sent again (--retry-quarantined sends them)"
        )
    if table.in_vain:
        why = "; ".join(dict.fromkeys(table.hopeless.values()))
        yield f"{table.table}: {plural(table.in_vain, 'row')} not sent: {why}"
    for words in table.cut:
        yield f"{table.table}: {words}"


def duration(seconds: float) -> str:
    """A rough time in words."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
