"""Assembles an incident from what the checks and the repair know.

Computes only; the parts come from the modules `ending`, `measured`, `repaired` and `left`.
"""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING

from checks.exit_status import ExitStatus
from remediation.provider.endpoint import base_url_of
from remediation.throttling.budget import budget_of
from reports.account.declared import declared
from reports.account.ending import headline_of, result_of
from reports.account.left import left_of
from reports.account.measured import absent_of, findings_of, tables_of
from reports.account.repaired import canary_of, plan_of, repair_of
from reports.values import incident as values
from reports.values.diagnosed import diagnosis_of
from reports.values.incident import Incident, Result

if TYPE_CHECKING:
    from checks.examination.run_context import RunContext
    from remediation.run.repair_run import RepairRun
    from reports.values.trend import Trend

PACKAGES = (
    "great_expectations",
    "jinja2",
    "numpy",
    "openai",
    "pgvector",
    "psycopg",
    "pydantic",
    "pytest",
    "pytest-html",
)


def incident_of(
    context: RunContext,
    run: RepairRun,
    *,
    command: tuple[str, ...],
    status: int,
    checks_only: bool = False,
    trend: Trend | None = None,
) -> Incident | None:
    """The incident of a run; None where every check held and nothing was done, unless the run was
    one of the checks alone, whose result was asked for.
    """
    if not (checks_only or context.before.open_findings or run.results or run.refused):
        return None
    after = context.examination if run.measured_again else None
    server, provider = context.before.server, context.settings.provider
    result = result_of(context, run, status, checks_only=checks_only)
    return Incident(
        run_id=run.run_id,
        started_at=run.started_at,
        finished_at=datetime.now(UTC),
        command=command,
        mode=_mode(run, checks_only=checks_only),
        rolls_back=run.rolls_back,
        result=result,
        exit_status=_exit_status(status),
        headline=headline_of(context, run, result),
        settings_file=context.settings.path.name,
        settings=declared(context.settings),
        database=values.DatabaseSummary(
            host=server.address or "local socket",
            port=server.port,
            name=server.database,
            role=server.role,
            server_version=server.version,
            pgvector_version=server.vector_version,
            same_write_side=run.server is None or run.server.address == server.address,
        ),
        provider=values.ProviderSummary(
            base_url=base_url_of(provider, context.environment),
            model=provider.model,
            dimensions=provider.dimensions,
            price_per_million_tokens=provider.price_per_million_tokens,
        ),
        versions=_versions(),
        tables=tables_of(context.before, after, run),
        absent=absent_of(context.before),
        findings_before=findings_of(context.before),
        findings_after=None if after is None else findings_of(after),
        plan=plan_of(run),
        repair=repair_of(run),
        canary=canary_of(run, budget_of(context.settings)),
        left=tuple(left_of(context.examination, run, command)),
        diagnosis=diagnosis_of(run.diagnoses),
        trend=trend,
        timeline=tuple(values.TimelineEvent(time=time, text=text) for time, text in run.timeline),
    )


def _mode(run: RepairRun, *, checks_only: bool) -> values.Mode:
    if run.rolls_back is not None:
        return "rollback"
    if checks_only:
        return "check"
    return "dry run" if run.dry_run else "repair"


def unexamined_incident(
    reason: str,
    *,
    run_id: str,
    started_at: datetime,
    command: tuple[str, ...],
    status: int,
    rolls_back: str | None = None,
    mode: values.Mode = "repair",
) -> Incident:
    """The incident of a run that could look at nothing."""
    return Incident(
        run_id=run_id,
        started_at=started_at,
        finished_at=datetime.now(UTC),
        command=command,
        mode=mode if rolls_back is None else "rollback",
        rolls_back=rolls_back,
        result=Result.NOT_EXAMINED,
        exit_status=_exit_status(status),
        headline=reason.splitlines()[0],
        interruption=reason if "\n" in reason else None,
        versions=_versions(),
    )


def _exit_status(status: int) -> values.ExitSummary:
    return values.ExitSummary(code=status, meaning=ExitStatus(status).meaning)


def _versions() -> values.Versions:
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return values.Versions(
        python=f"{platform.python_version()} on {sys.platform}", packages=packages
    )
