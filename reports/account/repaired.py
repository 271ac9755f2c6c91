"""Collects what a run planned and what it did: plan, outcomes, probes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediation.journal.outcomes import Outcome
from remediation.provider.usage import NOTHING
from reports.values import incident as values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remediation.journal.outcomes import OutcomeGroup
    from remediation.run.repair_run import RepairRun
    from remediation.table_repair.result import TableRepair
    from remediation.throttling.budget import Budget

DONE = (Outcome.FIXED, Outcome.RESTORED)
"""The outcomes that a repair and a rollback aim at; every other one is reported as a problem."""


def plan_of(run: RepairRun) -> values.PlanSummary | None:
    """The plan of a repair, or None where none was made."""
    plan = run.plan
    if plan is None:
        return None
    return values.PlanSummary(
        rows=plan.rows,
        requests=sum(table.requests for table in plan.tables),
        probe_requests=sum(table.probe_requests for table in plan.tables),
        tokens=plan.tokens,
        tokens_exact=all(table.counted.startswith("exact") for table in plan.tables),
        dollars=plan.dollars,
        seconds=plan.seconds,
        max_rows=plan.max_rows,
        max_dollars=plan.max_cost,
        lines=tuple(
            values.PlannedSegment(
                table=table.table,
                tenant=line.tenant,
                rows=line.rows,
                requests=line.requests,
                tokens=line.tokens,
                dollars=plan.dollars_of(line.tokens),
            )
            for table in plan.tables
            for line in table.tenants
        ),
    )


def repair_of(run: RepairRun) -> values.RepairSummary | None:
    """What a repair or a rollback did, or None where it did not begin."""
    if not run.results and not run.interrupted:
        return None
    plan = run.plan
    models = {} if plan is None else {table.table: table.model for table in plan.tables}
    usage = sum((result.usage for result in run.results), NOTHING)
    return values.RepairSummary(
        outcomes=tuple(line for result in run.results for line in _outcomes(result)),
        not_begun=sum(result.not_begun for result in run.results),
        requests=usage.requests,
        requests_unanswered=usage.unanswered,
        tokens=usage.tokens,
        tokens_unsaid=usage.unsaid,
        dollars=None if plan is None else plan.dollars_of(usage.reckoned),
        seconds=sum(result.seconds for result in run.results),
        problems=tuple(
            _problem(result.table, group, run)
            for result in run.results
            for group in result.account.groups
            if group.outcome not in DONE
        ),
        probes=tuple(
            values.ProbeSummary(
                table=result.table,
                tenant=probe.tenant,
                model=models[result.table],
                cosines=probe.cosines,
                least=probe.least,
            )
            for result in run.results
            for probe in result.probes
            # A probe without an answer proves nothing; its rows are reported as problems.
            if probe.failure is None
        ),
    )


def canary_of(run: RepairRun, budget: Budget) -> values.ReportedUsage | None:
    """What the canary asked of the provider, at the budget's price; None without a canary."""
    usage = run.canary
    if usage is None:
        return None
    return values.ReportedUsage(
        requests=usage.requests,
        requests_unanswered=usage.unanswered,
        tokens=usage.tokens,
        tokens_unsaid=usage.unsaid,
        dollars=budget.dollars(usage.reckoned),
    )


def _outcomes(result: TableRepair) -> Iterator[values.OutcomeCounts]:
    counts: dict[str | None, dict[str, int]] = {}
    for group in result.account.groups:
        of_tenant = counts.setdefault(group.tenant, {})
        of_tenant[group.outcome] = of_tenant.get(group.outcome, 0) + group.rows
    for tenant, outcomes in counts.items():
        yield values.OutcomeCounts.model_validate(
            {"table": result.table, "tenant": tenant, **outcomes}
        )


def _problem(table: str, group: OutcomeGroup, run: RepairRun) -> values.UnfixedRows:
    return values.UnfixedRows.model_validate(
        {
            "table": table,
            "tenant": group.tenant,
            "outcome": str(group.outcome),
            "reason": group.reason,
            "rows": group.rows,
            "sample_keys": tuple(", ".join(key) for key in group.sample_keys),
            "texts": {
                ", ".join(key): run.texts[table, key]
                for key in group.sample_keys
                if (table, key) in run.texts
            },
        }
    )
