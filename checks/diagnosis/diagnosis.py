"""Diagnoses the tables of an examination that have failing rows: two statements each, at most.

A diagnosis that fails or takes too long is said to be missing; it never ends a run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg

from checks.database.connection import ALL_ROWS, connect, read_only, reason_of
from checks.diagnosis import facets as by
from checks.diagnosis.evidence import Evidence, concentrated, evidence_of
from checks.diagnosis.facet_statement import TOTAL, compile_facets
from checks.diagnosis.facets import Facets, gathered
from checks.diagnosis.failing_keys import FailingKeys
from checks.diagnosis.window import Window, window_of
from checks.errors import CannotExamineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checks.database.connection import Connection, ConnectionTarget
    from checks.examination.examination import Examination
    from checks.examination.table_examination import TableExamination
    from checks.row_checks.row_check import AppliedCheck
    from checks.settings.integrity_toml import Settings

CHARACTERS_PER_TOKEN = 4
"""OpenAI's rule of thumb for English text."""
MOST_TABLES = 20
"""Tables that are diagnosed, those with most failing rows."""
PAGE_ROWS = 2_000
"""Rows of a statement's result that are in memory at once."""
PATIENCE = timedelta(minutes=1)
"""A statement's time limit, where `statement_timeout` is not shorter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """What the failing rows of one table have in common."""

    table: str
    found: Facets = field(default_factory=Facets)
    window: Window | None = None
    """Where most failing rows were created, if it tells them from other rows."""
    evidence: tuple[Evidence, ...] = ()
    missing: str | None = None
    """Why there is none."""
    seconds: float = 0.0
    """What its statements took."""
    keys: FailingKeys | None = field(default=None, repr=False, compare=False)
    """The failing rows themselves, where they were asked for."""


def diagnose(
    place: ConnectionTarget,
    settings: Settings,
    examination: Examination,
    *,
    within: timedelta | None = None,
    keys: bool = True,
) -> dict[str, Diagnosis]:
    """The diagnoses of an examination, by table; only of tables with failing rows.

    No table is begun later than `within`, and none of its statements goes on for longer than that.
    `keys` lists the failing rows, in the same statements.
    """
    failing = {
        table.target.name: checks
        for table in examination.tables
        if (checks := _failing_checks(table))
    }
    worst = sorted(
        failing,
        key=lambda name: -max(examination.table(name).failing(c.name) for c in failing[name]),
    )
    if not worst:
        return {}
    longest = CHARACTERS_PER_TOKEN * settings.provider.max_tokens_per_input
    timeout = min(PATIENCE, settings.database.statement_timeout)
    latest = time.monotonic() + (within or MOST_TABLES * PATIENCE).total_seconds()
    found: dict[str, Diagnosis] = {}
    try:
        with connect(place) as connection:
            for name in worst[:MOST_TABLES]:
                table = examination.table(name)
                begun = time.monotonic()
                left = timedelta(seconds=latest - begun)
                if left <= timedelta(0):
                    break
                try:
                    with read_only(
                        connection,
                        place,
                        statement_timeout=min(timeout, left),
                        row_security=table.target.row_security,
                        planner=ALL_ROWS,
                    ):
                        found[name] = _diagnosis(
                            connection,
                            table,
                            failing[name],
                            longest=longest,
                            keys=FailingKeys(name) if keys else None,
                        )
                except psycopg.Error as error:
                    found[name] = Diagnosis(table=name, missing=reason_of(error))
                except OSError as error:
                    words = f"the keys of its failing rows cannot be kept ({error.strerror})"
                    found[name] = Diagnosis(table=name, missing=words)
                found[name] = replace(found[name], seconds=time.monotonic() - begun)
    except CannotExamineError as error:
        return dict.fromkeys(worst, Diagnosis(table="", missing=str(error))) | found
    return found


def _failing_checks(table: TableExamination) -> tuple[AppliedCheck, ...]:
    """The checks that rows fail and nobody accepted, of those that looked at every row."""
    open_checks = {
        finding.check
        for finding in table.findings
        if finding.accepted is None and not finding.whole_table
    }
    return tuple(
        check
        for check in table.checks
        if check.name in open_checks
        and check.name not in table.part.sampled
        and table.failing(check.name)
    )


def _diagnosis(
    connection: Connection,
    table: TableExamination,
    checks: tuple[AppliedCheck, ...],
    *,
    longest: int,
    keys: FailingKeys | None,
) -> Diagnosis:
    def facets(outside: Window | None = None) -> Facets:
        statement = compile_facets(
            table.target,
            checks,
            tenants=table.tenants,
            longest=longest,
            failing_only=table.part.failing_only,
            keys=keys is not None and outside is None,
            outside=None if outside is None else (outside.first, outside.last),
        )
        # A cursor of the server: only what is fetched is in memory.
        with connection.cursor(name="integrity_facets") as cursor:
            cursor.itersize = PAGE_ROWS
            cursor.execute(statement)
            return gathered(cursor, total=TOTAL, on_key=None if keys is None else keys.add)

    found = facets()
    window = window_of(found.of.get(by.HOUR, ()))
    if window is not None and not concentrated(found, window):
        told, outside = None, None
    else:
        told = window
        apart = window is not None and window.failing < found.failing
        outside = facets(window) if apart else None
    return Diagnosis(
        table=table.target.name,
        found=found,
        window=told,
        evidence=tuple(evidence_of(table.target, found, window, outside, longest=longest)),
        keys=keys,
    )


def weighed(diagnoses: Mapping[str, Diagnosis]) -> str | None:
    """Whether it was a migration, as far as the evidence of each table goes; None without any."""
    words = []
    for name, diagnosis in diagnoses.items():
        pointing = {one.migration for one in diagnosis.evidence} - {None}
        if pointing == {"for"}:
            words.append(f"what was counted in {name} speaks for it")
        elif pointing == {"against"}:
            words.append(f"what was counted in {name} speaks against it")
        elif pointing:
            words.append(f"what was counted in {name} points both ways")
    return "; ".join(words) or None
