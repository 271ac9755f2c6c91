"""What each output of a run says agrees with all others, and is what the database holds."""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from checks.canary.drift import look_for_drift
from checks.canary.drift_verdicts import with_drift
from checks.database.connection_url import parse_url
from checks.examination.run_context import RunContext
from checks.examination.selection import Selection
from checks.items.cases import Case, cases_of
from checks.items.checked_case import CheckedCase, DoesNotHoldError
from checks.items.judgements import judge
from demo.postgres import create_database, drop_database
from remediation.announcement import result_lines
from remediation.execution import execute
from remediation.journal.past_journals import find_journal
from remediation.plan_table import plan_lines
from remediation.run.opening import open_repair
from remediation.run.repair_run import RepairRun, new_run_id
from reports.account.assembly import incident_of
from reports.history import measured
from reports.outputs.files import write
from reports.outputs.openmetrics import openmetrics
from reports.terminal.failing_checks import failing_checks
from reports.terminal.screen import summary_lines
from reports.values.incident import Incident
from tests.drivers.canaries import asking
from tests.drivers.page import Page
from tests.drivers.repairs import SOON, environment, key_of
from tests.drivers.repairs import settings as settings_of
from tests.servers.provider_server import MODEL, ProviderServer, vector_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from checks.examination.examination import Examination
    from checks.settings.integrity_toml import Settings
    from remediation.journal.outcomes import Outcome
    from remediation.table_repair.planning.plan import Plan

REFUSED = "globex"
"""The tenant whose key the provider refuses."""
TENANTS = ("acme", REFUSED, "initech")
KEYS = environment(*TENANTS)
ROWS_OF = {
    "public.docs": "SELECT id, tenant, body, model, embedding FROM docs",
    "public.cards": "SELECT id, tenant, body, model, embedding FROM cards"
    " LEFT JOIN card_vectors ON card_id = id",
}
FAILS = {
    "completeness": "embedding IS NULL",
    "dimensionality": "vector_dims(embedding) <> 8",
    "provenance": f"embedding IS NOT NULL AND model IS DISTINCT FROM '{MODEL}'",
    "uniqueness": "embedding IN (SELECT embedding FROM r GROUP BY 1 HAVING count(*) > 1)",
}
"""The same rules by hand; no text stands twice in these tables."""
VECTORS = {
    "whole": None,
    "drifted": "[7,6,5,4,3,2,1,{id}]",
    "short": "[1,2,{id}]",
    "stub": "[9,9,9,9,9,9,9,9]",
}
ROWS = st.lists(
    st.tuples(
        st.sampled_from(TENANTS),
        st.sampled_from([*VECTORS, "whole", "whole", "none", "none", "poison", "blank"]),
        st.sampled_from((MODEL, MODEL, "old")),
    ),
    min_size=8,
    max_size=25,
).map(lambda rows: [*((tenant, "whole", MODEL) for tenant in TENANTS), *rows])
"""Where not one row of a tenant agrees, a canary leaves it to people what is wrong."""
OUTCOMES = {"fixed", "superseded", "quarantined", "failed", "skipped"}
Rows = list[tuple[str, str, str]]
Counts = dict[tuple[str, str], int]


class Silent:
    """Is told of a repair, and says nothing."""

    def planned(self, _plan: Plan) -> None: ...

    def settled(self, _outcome: Outcome) -> None: ...

    def paused(self, _words: str) -> None: ...

    def ended(self) -> None: ...


@pytest.fixture(scope="module")
def url(server_url: str) -> Iterator[str]:
    made = create_database(server_url, "one_account")
    with psycopg.connect(made, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        row = "id int PRIMARY KEY, tenant text, body text"
        connection.execute(f"CREATE TABLE docs ({row}, model text, embedding vector)")
        connection.execute(f"CREATE TABLE cards ({row})")
        connection.execute(
            "CREATE TABLE card_vectors (card_id int PRIMARY KEY, model text, embedding vector)"
        )
    yield made
    drop_database(server_url, "one_account")


def fill(connection: psycopg.Connection[Any], rows: Mapping[str, Rows]) -> None:
    connection.execute("TRUNCATE docs, cards, card_vectors")
    for table, of_table in rows.items():
        for number, (tenant, kind, model) in enumerate(of_table, start=1):
            body = "" if kind == "blank" else f"{kind} text {number} of {table}"
            vector = VECTORS.get(kind)
            if kind == "whole":
                vector = str(vector_of(body).tolist())
            stored = (model, vector and vector.format(id=number))
            if table == "public.docs":
                values = (number, tenant, body, *stored)
                connection.execute("INSERT INTO docs VALUES (%s, %s, %s, %s, %s)", values)
                continue
            connection.execute("INSERT INTO cards VALUES (%s, %s, %s)", (number, tenant, body))
            if vector is not None:
                connection.execute(
                    "INSERT INTO card_vectors VALUES (%s, %s, %s)", (number, *stored)
                )


def held(connection: psycopg.Connection[Any]) -> tuple[Counts, set[tuple[str, int]]]:
    """Failing rows by table and check, and those that fail any of them, told by the server."""
    counts: Counts = {}
    affected = set()
    for table, rows in ROWS_OF.items():
        for check, rule in FAILS.items():
            found = connection.execute(
                f"WITH r AS ({rows} WHERE body <> '') SELECT id FROM r WHERE {rule}"
            ).fetchall()
            affected |= {(table, key) for (key,) in found}
            if found:
                counts[table, check] = len(found)
    return counts, affected


def wrong(connection: psycopg.Connection[Any]) -> set[tuple[str, int]]:
    """The rows that have not the vector of their text, or another model."""
    return {
        (table, key)
        for table, rows in ROWS_OF.items()
        for key, _, body, model, vector in connection.execute(rows).fetchall()
        if body and (model != MODEL or vector is None or not is_of(body, vector))
    }


def is_of(body: str, vector: str) -> bool:
    return np.array_equal(np.array(json.loads(vector), np.float32), vector_of(body))


def junit_counts(examination: Examination) -> Counts:
    """Failing rows by table and check, from the properties that JUnit's cases carry."""
    counts: Counter[tuple[str, str]] = Counter()
    of_drift = [
        Case(check="drift", table=table.target.name, tenant=one.segment.tenant, whole_table=False)
        for table in examination.tables
        for one in table.measurements
    ]
    for case in dict.fromkeys((*cases_of(examination), *of_drift)):
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


def terminal_counts(examination: Examination) -> Counts:
    failing = failing_checks(examination.open_findings, examination)
    return {(one.table, one.check): one.failing for one in failing if one.failing}


def metrics_counts(examination: Examination) -> Counts:
    """Of the checks that look at every row: the metrics hold no others."""
    run = measured(examination, run_id="run", at=datetime.now(UTC))
    text = openmetrics(run, status=0, at=0.0)
    found = re.findall(r'_failing_rows\{table="(.+)",check="(.+)"\} (\d+)', text)
    return {(table, check): int(rows) for table, check, rows in found if int(rows)}


def examined_with_drift(url: str, chosen: Settings) -> Examination:
    with asking(url, chosen, keys=KEYS) as (sampler, embedder, examination):
        tables = [table for table in examination.tables if table.measurements]
        asked = [(table, [m.segment.tenant for m in table.measurements]) for table in tables]
        seen = look_for_drift(sampler, embedder, asked, lambda *_: None)
        again = with_drift(tables, seen, least=chosen.canary.min_cosine)
        return examination.updated(list(again))


@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # to make a failure smaller takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(docs=ROWS, cards=ROWS, most=st.sampled_from([8, 100]))
def test_every_output_of_a_run_says_what_the_database_holds(
    url: str, tmp_path: Path, docs: Rows, cards: Rows, most: int
) -> None:
    with (
        psycopg.connect(url, autocommit=True) as connection,
        ProviderServer(keys={key_of(name) for name in TENANTS if name != REFUSED}) as server,
    ):
        server.poison("poison")
        rows = {"public.docs": docs, "public.cards": cards}
        fill(connection, rows)
        counts, affected = held(connection)
        # Of rows that hold by themselves, a canary with a key finds all that drifted.
        drifted = {
            (table, number)
            for table, of_table in rows.items()
            for number, (tenant, kind, model) in enumerate(of_table, start=1)
            if kind in {"drifted", "stub"} and model == MODEL and tenant != REFUSED
        }
        wrong_before = wrong(connection)
        entry = {"tenant": "tenant", "text": "body"}
        store = {"name": "card_vectors", "key": ["card_id"], "model_column": "model"}
        chosen = settings_of(
            server,
            repair={"max_rows": most},
            canary={"sample": 25},
            tables=[
                {"name": "public.docs", **entry, "model_column": "model"},
                {"name": "public.cards", **entry, "store": store},
            ],
        )
        examination = examined_with_drift(url, chosen)
        of_drift = Counter((table, "drift") for table, _ in drifted)
        assert terminal_counts(examination) == counts | of_drift
        assert junit_counts(examination) == counts | of_drift
        assert metrics_counts(examination) == counts
        # Only of a row that is both a stub and drifting no count says that it is one.
        exact = drifted.isdisjoint(affected)
        failing = failing_checks(examination.open_findings, examination)
        screen = [line for line, _ in summary_lines(failing, examination, width=80)]
        assert not (exact and affected) or screen[-1].startswith(
            f"in all {len(affected | drifted)} of {len(docs) + len(cards)} rows"
        )

        run = RepairRun(
            run_id=new_run_id(),
            started_at=datetime.now(UTC),
            dry_run=False,
            report_directory=tmp_path,
        )
        place = parse_url(url, variable="DATABASE_URL")
        context = RunContext(
            settings=chosen,
            environment=KEYS,
            place=place,
            selection=Selection(),
            before=examination,
            examination=examination,
        )
        with open_repair(
            run_id=run.run_id,
            settings=chosen,
            environment=KEYS,
            examination=examination,
            read_place=place,
            tenants=None,
            retry=SOON,
            report_directory=tmp_path,
        ) as repair:
            execute(context, run, repair, Silent())
        left, affected_after = held(connection)
        fixed = wrong_before - wrong(connection)
        assert run.plan is not None
        # Every check of these is one that a repair heals, so that it selects each such row once.
        assert run.plan.selected == len(affected | drifted)
        planned = {table.table: table.rows for table in run.plan.tables}
        assert planned == Counter(table for table, _ in affected | drifted)
        lines = "\n".join(plan_lines(run.plan, place="here", dry_run=True))
        for table, number in planned.items():
            assert re.search(rf"^{table} +{number} ", lines, re.MULTILINE)
        assert terminal_counts(context.examination) == left
        assert metrics_counts(context.examination) == left

        status = int(bool(left))
        incident = incident_of(context, run, command=("pytest", "--remediate"), status=status)
        assert (incident is None) == (not examination.open_findings)
        if incident is None or not affected | drifted:
            return
        written = write(incident, tmp_path)
        again = Incident.model_validate_json(written.json.read_text(encoding="utf-8"))
        of_rows = again.failing_before
        assert of_rows.exact == exact
        assert of_rows.rows <= len(affected | drifted)
        assert not exact or of_rows.rows == len(affected | drifted)
        assert again.repair is not None
        totals = again.repair.totals
        assert totals.fixed == len(fixed)
        assert sum(totals.model_dump(include=OUTCOMES).values()) == len(affected | drifted)
        assert again.headline.startswith(f"{len(fixed)}/{len(affected | drifted)} rows re-embedded")
        entered = Counter(
            event["outcome"]
            for _, event in find_journal(run.run_id, tmp_path).events()
            if event["event"] == "outcome"
        )
        # What a cap leaves out is counted, and has no line of its own.
        tried = totals.model_dump(include=OUTCOMES - {"skipped"})
        assert {outcome: entered[outcome] for outcome in tried} == tried
        told = "\n".join(result_lines(run.results))
        for table, number in planned.items():
            of_table = sum(name == table for name, _ in fixed)
            assert f"{table}: {of_table}/{number} rows re-embedded" in told
        found = Counter[tuple[str, str]]()
        for finding in again.findings_after or ():
            found[finding.table, finding.check] += finding.failing or 0
        assert {key: rows for key, rows in found.items() if key[1] != "drift"} == left
        assert again.failing_now.rows == len(affected_after)
        for one in again.tables:  # the statement that it shows is one that a person can run
            counted = connection.execute((one.scan_sql or "").encode()).fetchall()
            assert sum(row[2] for row in counted) == one.rows
        page = Page(written.html.read_text(encoding="utf-8")).words
        markdown = written.markdown.read_text(encoding="utf-8")
        message = written.message.read_text(encoding="utf-8")
        for text in (page, markdown, message) if exact else ():
            assert f"{len(affected | drifted)} of {len(docs) + len(cards)} rows" in text
        assert page.count("The scan of public.") == len(again.tables)
        for text in (page, markdown):
            assert again.headline in text
