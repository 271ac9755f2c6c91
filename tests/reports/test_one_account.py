"""What terminal, plan, page and JSON say of one run agrees, and is what the database holds."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from checks.database.connection_url import parse_url
from checks.examination.examination import examine
from checks.examination.run_context import RunContext
from checks.examination.selection import Selection
from checks.items.cases import cases_of
from checks.items.checked_case import CheckedCase, DoesNotHoldError
from checks.items.judgements import judge
from demo.postgres import create_database, drop_database
from remediation.plan_table import plan_lines
from remediation.run.opening import open_repair
from remediation.run.repair_run import RepairRun
from reports.account.assembly import incident_of
from reports.page import html
from reports.terminal.failing_checks import failing_checks
from reports.terminal.screen import summary_lines
from reports.values.incident import Incident
from tests.page import Page
from tests.repairs import environment
from tests.repairs import settings as settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checks.examination.examination import Examination

TENANTS = ("acme", "globex", "initech")
FAILS = {
    "completeness": "embedding IS NULL",
    "dimensionality": "vector_dims(embedding) <> 8",
    "provenance": "embedding IS NOT NULL AND model IS DISTINCT FROM 'm'",
    "uniqueness": "embedding IN (SELECT embedding FROM {table} GROUP BY 1 HAVING count(*) > 1)",
}
"""The same rules by hand; no text stands twice in these tables."""
VECTORS = {
    "whole": "[1,2,3,4,5,6,7,{id}]",
    "none": None,
    "short": "[1,2,{id}]",
    "stub": "[9,9,9,9,9,9,9,9]",
}
ROWS = st.lists(
    st.tuples(st.sampled_from(TENANTS), st.sampled_from([*VECTORS]), st.sampled_from(("m", "old"))),
    max_size=25,
)


@pytest.fixture(scope="module")
def url(server_url: str) -> Iterator[str]:
    made = create_database(server_url, "one_account")
    with psycopg.connect(made, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        for name in ("docs", "notes"):
            connection.execute(
                f"CREATE TABLE {name} (id int PRIMARY KEY, tenant text, body text, model text,"
                " embedding vector)"
            )
    yield made
    drop_database(server_url, "one_account")


def fill(connection: psycopg.Connection[Any], table: str, rows: list[tuple[str, str, str]]) -> None:
    connection.execute(f"TRUNCATE {table}")
    for number, (tenant, kind, model) in enumerate(rows, start=1):
        vector = VECTORS[kind]
        connection.execute(
            f"INSERT INTO {table} VALUES (%s, %s, %s, %s, %s)",
            (number, tenant, f"text {number}", model, vector and vector.format(id=number)),
        )


def held(connection: psycopg.Connection[Any], table: str) -> tuple[dict[str, int], int]:
    """Failing rows by check, and rows that fail any of them, counted by the server."""
    by_hand = {check: rule.format(table=table) for check, rule in FAILS.items()}
    counts = {
        check: connection.execute(f"SELECT count(*) FROM {table} WHERE {rule}").fetchall()[0][0]
        for check, rule in by_hand.items()
    }
    anyhow = " OR ".join(f"({rule})" for rule in by_hand.values())
    affected = connection.execute(f"SELECT count(*) FROM {table} WHERE {anyhow}").fetchall()[0][0]
    return counts, affected


def junit_counts(examination: Examination) -> dict[tuple[str, str], int]:
    """Failing rows by table and check, from the properties that JUnit's cases carry."""
    counts: Counter[tuple[str, str]] = Counter()
    for case in cases_of(examination):
        told: list[tuple[str, object]] = []
        checked = CheckedCase(
            judgement=judge(case, examination),
            record=lambda name, value, told=told: told.append((name, value)),  # type: ignore[misc]
        )
        with suppress(DoesNotHoldError), warnings.catch_warnings(action="ignore"):
            checked.must_hold()
        if failing := dict(told).get("failing"):
            counts[case.table, case.check] += int(str(failing))
    return {key: count for key, count in counts.items() if count}


@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # to make a failure smaller takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(docs=ROWS, notes=ROWS)
def test_every_output_of_a_run_says_what_the_database_holds(
    url: str, docs: list[tuple[str, str, str]], notes: list[tuple[str, str, str]]
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        fill(connection, "docs", docs)
        fill(connection, "notes", notes)
        truth = {f"public.{name}": held(connection, name) for name in ("docs", "notes")}
    entry = {"tenant": "tenant", "text": "body", "model_column": "model"}
    chosen = settings_of(
        "http://127.0.0.1:1/v1",
        provider={"model": "m"},
        tables=[{"name": name, **entry} for name in truth],
    )
    place = parse_url(url, variable="DATABASE_URL")
    examination = examine(place, chosen, Selection())
    run = RepairRun(
        run_id="run", started_at=datetime.now(UTC), dry_run=True, report_directory=Path()
    )
    with open_repair(
        run_id="run",
        settings=chosen,
        environment=environment(*TENANTS),
        examination=examination,
        read_place=place,
        tenants=None,
    ) as repair:
        run.plan = repair.plan()
    affected = sum(rows for _, rows in truth.values())
    failing = failing_checks(examination.open_findings, examination)
    by_check = {(one.table, one.check): one.failing for one in failing if one.failing}
    assert by_check == {
        (table, check): count
        for table, (counts, _) in truth.items()
        for check, count in counts.items()
        if count
    }
    assert junit_counts(examination) == by_check
    screen = [line for line, _ in summary_lines(failing, examination, width=80)]
    if affected:
        assert f"in all {affected} of {len(docs) + len(notes)} rows" in screen[-1]
    # Every check of these is one that a repair heals, so that it selects each such row once.
    assert run.plan.selected == affected
    planned = {table.table: table.rows for table in run.plan.tables}
    assert planned == {table: rows for table, (_, rows) in truth.items() if rows}
    lines = "\n".join(plan_lines(run.plan, place="here", dry_run=True))
    for table, rows in planned.items():
        assert re.search(rf"^{table} +{rows} ", lines, re.MULTILINE)
    context = RunContext(
        settings=chosen,
        environment={},
        place=place,
        selection=Selection(),
        before=examination,
        examination=examination,
    )
    incident = incident_of(context, run, command=("pytest",), status=1)
    if incident is None:
        assert not examination.open_findings
        return
    again = Incident.model_validate_json(incident.model_dump_json())
    assert (again.failing_before.rows, again.failing_before.exact) == (affected, True)
    assert {one.name: one.failing_before.rows for one in again.tables} == {
        table: rows for table, (_, rows) in truth.items()
    }
    page = Page(html.render(again))
    assert not affected or re.search(
        rf"(?<!at least )\b{affected} of {len(docs) + len(notes)}\b", page.words
    )
