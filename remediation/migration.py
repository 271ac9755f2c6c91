"""Fills the embeddings of a table from within a migration script: Alembic, Django, plain Python.

A door: `unattended` repairs, `reports` writes the incident. Works over connections of its own, so
it sees only what the migration has committed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from checks.database.connection import connect, read_only, reason_of
from checks.database.connection_url import parse_url
from checks.errors import IntegrityError
from checks.examination.selection import Selection, UnknownNameError
from checks.redaction import redactor
from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.settings.environment import (
    Environment,
    read_environment,
    report_directory,
    settings_file,
)
from checks.settings.integrity_toml import Settings, load_settings, settings_in
from checks.tracebacks import bare
from checks.wording import plural
from remediation.announcement import result_lines
from remediation.journal.outcomes import Outcome
from remediation.run.repair_run import RepairRun, new_run_id
from remediation.unattended import repair_unattended

if TYPE_CHECKING:
    from os import PathLike

    from checks.database.connection import ConnectionTarget
    from checks.examination.run_context import RunContext
    from remediation.table_repair.planning.plan import Plan

LOCK_PATIENCE = timedelta(seconds=3)
"""For a lock that keeps readers out: longer than a DDL statement holds one, by far, and no hang."""
SECTIONS = frozenset(Settings.model_fields) - {"tables"}
log = logging.getLogger(__name__)

_EXCLUSIVE = """
SELECT n.nspname, c.relname, l.pid, a.application_name
FROM pg_catalog.pg_locks AS l
JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'AccessExclusiveLock'
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
"""
COMMIT_FIRST = (
    "the backfill works over a connection of its own, which sees only what is committed: commit the"
    " migration's DDL first (Alembic: autocommit_block(); Django: atomic = False)"
)


class BackfillError(IntegrityError):
    """Nothing could be filled; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BackfillResult:
    """What came of the rows: `selected` is the sum of the five outcomes after it."""

    run_id: str
    selected: int
    fixed: int
    superseded: int
    quarantined: int
    failed: int
    skipped: int
    stopped: str | None = None
    """Why the work ended before its last row, or why the report is not written; else None."""
    report: Path | None = None
    """The incident report; None where there was nothing to do."""

    @property
    def complete(self) -> bool:
        """Whether every selected row has its embedding now."""
        return self.fixed == self.selected and self.stopped is None


@bare
def backfill(
    url: str,
    *,
    table: str,
    settings: str | PathLike[str] | Settings | Mapping[str, Any] | None = None,
    report_dir: str | PathLike[str] | None = None,
) -> BackfillResult:
    """Give every row of a table that ought to have an embedding one, as `pytest --remediate` does.

    `url` is where to read and write, whatever the environment says; tenants' keys are found as the
    settings say. `settings` is a file's path (None: INTEGRITY_CONFIG, else integrity.toml), parsed
    settings, or the keys of the table's entry, with sections such as `provider` beside them:
    `{"text": "body", "tenant": "tenant_id", "keys": {"fallback_env": "OPENAI_API_KEY"}}`.
    `report_dir` None: INTEGRITY_REPORT_DIR, else incidents.

    Rows that cannot be filled are counted, and raise nothing: look at `complete`. Raises
    `BackfillError` where nothing could be done at all, and `SettingsError`, `ConnectionUrlError`,
    `CannotExamineError` and `EnvironmentFileError`.
    """
    environment = read_environment((Path.cwd(),))
    chosen = _settings(settings, table, environment)
    place = replace(parse_url(url, variable="url"), variable=None, lock_timeout=LOCK_PATIENCE)
    run = RepairRun(
        run_id=new_run_id(),
        started_at=datetime.now(UTC),
        dry_run=False,
        report_directory=report_directory(
            None if report_dir is None else fspath(report_dir), environment, Path.cwd()
        ),
    )
    _await_ddl(place, chosen, table)
    from reports.unattended import write_incident

    written_elsewhere = chosen.database.write_url_env
    try:
        context = repair_unattended(
            settings=chosen,
            environment=Environment(
                {name: environment[name] for name in environment if name != written_elsewhere}
            ),
            selection=Selection(tables=[table]),
            run=run,
            watcher=_Logging(),
            started_from=Path.cwd(),
            write_incident=write_incident,
            place=place,
        )
    except UnknownNameError as error:
        raise BackfillError(f"table {table!r} {error.reason}") from None
    if run.refused is not None:
        raise BackfillError(f"{table} was not filled: {run.refused}")
    return _result(context, run)


def _settings(
    given: str | PathLike[str] | Settings | Mapping[str, Any] | None,
    table: str,
    environment: Mapping[str, str],
) -> Settings:
    if isinstance(given, Settings):
        return given
    if isinstance(given, Mapping):
        sections = {key: given[key] for key in given if key in SECTIONS}
        entry = {"name": table, **{key: given[key] for key in given if key not in SECTIONS}}
        return settings_in(
            {**sections, "tables": [entry]}, row_checks=ROW_CHECK_NAMES, named="settings"
        )
    named = None if given is None else fspath(given)
    return load_settings(
        settings_file(named, environment, (Path.cwd(),)), row_checks=ROW_CHECK_NAMES
    )


def _await_ddl(place: ConnectionTarget, settings: Settings, table: str) -> None:
    """Raise `BackfillError` where a session keeps readers out of the table for longer than DDL."""
    declared = [entry.name for entry in settings.tables]
    until = time.monotonic() + LOCK_PATIENCE.total_seconds()
    with connect(place) as connection:
        while True:
            try:
                with read_only(connection, place, statement_timeout=LOCK_PATIENCE):
                    locks = connection.execute(_EXCLUSIVE).fetchall()
            except psycopg.Error as error:
                raise BackfillError(f"cannot look at the locks: {reason_of(error)}") from None
            for schema, name, pid, application in locks:
                meant = table in (name, f"{schema}.{name}") and any(
                    entry.match(schema, name) for entry in declared
                )
                if meant and time.monotonic() > until:
                    who = f"pid {pid}" + (f", {application!r}" if application else "")
                    raise BackfillError(
                        f"{table} is locked by another session ({who}), so that it cannot even be"
                        f" read; {COMMIT_FIRST}"
                    )
                if meant:
                    break
            else:
                return
            time.sleep(0.1)


def _result(context: RunContext, run: RepairRun) -> BackfillResult:
    """The result of a run. Raises `BackfillError` where no table could be worked on."""
    tables = context.examination.tables
    unworkable = []
    for table in tables:
        planned = {one.table: one for one in run.plan.tables} if run.plan else {}
        if table.target.absent:
            unworkable.append(f"{table.target.name} is not there; {COMMIT_FIRST}")
        elif table.target.problems or table.error:
            reasons = [problem.text for problem in table.target.problems]
            reasons += [table.error] if table.error else []
            unworkable.append(f"{'; '.join(reasons)}; {COMMIT_FIRST}")
        elif (one := planned.get(table.target.name)) is not None and one.unrepairable:
            unworkable.append(one.unrepairable)
    if unworkable and len(unworkable) == len(tables):
        raise BackfillError(redactor.clean("nothing was filled: " + "; ".join(unworkable)))
    stopped = [*unworkable, *run.warnings]
    stopped += [f"{one.table}: {one.stopped}" for one in run.results if one.stopped]
    for line in result_lines(run.results):
        log.info("%s", redactor.clean(line))
    counts = {
        str(outcome): sum(one.account.count(outcome) for one in run.results)
        for outcome in Outcome
        if outcome is not Outcome.RESTORED
    }
    return BackfillResult(
        run_id=run.run_id,
        selected=sum(one.account.selected for one in run.results),
        **counts,
        stopped=redactor.clean("; ".join(stopped)) or None,
        report=run.page,
    )


class _Logging:
    """Says in the log what a migration's owner may want to see while it runs."""

    def planned(self, plan: Plan) -> None:
        log.info("%s to embed in %s", plural(plan.rows, "row"), plural(plan.requests, "request"))

    def settled(self, outcome: Outcome) -> None:
        """Rows are too many to be said one by one."""

    def paused(self, words: str) -> None:
        log.info("%s", redactor.clean(words))

    def ended(self) -> None:
        """The result says it."""
