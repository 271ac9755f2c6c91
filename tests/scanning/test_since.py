"""With --since only changed rows are looked at and repaired, and what is left out is said."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from checks.items.cases import cases_of
from checks.items.judgements import judge
from tests.builders.stores import INSIGHTS
from tests.builders.tables import DOCS, examined, failing, rows, run, says, table
from tests.drivers.runs import fill, missing

if TYPE_CHECKING:
    from tests.drivers.runs import Site

pytest_plugins = ("pytester",)

DAYS = timedelta(days=2)
TIMED = """
CREATE TABLE docs (
    id int PRIMARY KEY, tenant text, body text DEFAULT 'x', embedding vector DEFAULT '[1,2,3]',
    created_at timestamptz, updated_at timestamptz, embedded_at timestamptz
)
"""
OLD, NEW = "now() - interval '9 days'", "now() - interval '1 day'"


def timed(**keys: object) -> str:
    times = {"created_at": "created_at", "updated_at": "updated_at", "embedded_at": "embedded_at"}
    return table(tenant="tenant", **{**times, **keys})


def keys_shown(url: str, declared: str, check: str) -> list[int]:
    """The keys of the rows that the statements of a check's findings show."""
    findings = [f for f in examined(url, declared, since=DAYS).findings if f.check == check]
    shown = [[row[0] for row in rows(url, f.query or "")] for f in findings]
    assert [len(keys) for keys in shown] == [f.failing for f in findings]
    return sorted(key for keys in shown for key in keys)


EVERY = [{"name": "every", "failing_when": "true"}]


def test_a_row_changed_when_it_was_made_edited_or_embedded_or_when_nobody_knows(
    database: str,
) -> None:
    run(
        database,
        TIMED,
        f"""INSERT INTO docs (id, created_at, updated_at, embedded_at) VALUES
        (1, {OLD}, {OLD}, {OLD}), (2, {NEW}, {OLD}, {OLD}), (3, {OLD}, {NEW}, {OLD}),
        (4, {OLD}, {OLD}, {NEW}), (5, {OLD}, NULL, {OLD}), (6, {OLD}, {OLD}, NULL),
        (7, NULL, NULL, NULL), (8, '2999-01-01', NULL, {OLD})""",
    )
    assert keys_shown(database, timed(custom=EVERY), "every") == [2, 3, 4, 6, 7, 8]
    declared = table(created_at="created_at", custom=EVERY)
    assert keys_shown(database, declared, "every") == [2, 7, 8]


def test_beside_a_store_its_embedded_at_counts_and_so_does_a_row_without_one(database: str) -> None:
    run(
        database,
        INSIGHTS,
        "CREATE TABLE vectors (insight_id int PRIMARY KEY, embedding vector, at timestamptz)",
        "INSERT INTO insights (id, body) VALUES (1, 'x'), (2, 'y'), (3, 'z')",
        f"INSERT INTO vectors VALUES (1, '[1,2,3]', {OLD}), (2, '[1,2,3]', {NEW})",
    )
    store = {"name": "vectors", "key": ["insight_id"], "embedded_at": "at"}
    assert keys_shown(database, table("insights", store=store, custom=EVERY), "every") == [2, 3]


def test_a_row_that_was_pending_then_is_looked_at_when_its_grace_has_ended(database: str) -> None:
    run(
        database,
        TIMED,
        "INSERT INTO docs VALUES (1, 'a', 'x', NULL, now() - interval '50 hours', NULL, now())",
    )
    declared = table(created_at="created_at")
    assert not examined(database, declared, since=DAYS).findings
    declared = table(created_at="created_at", grace="3 hours")
    assert failing(examined(database, declared, since=DAYS), "completeness") == {None: 1}


def test_the_finding_and_the_run_say_which_rows_were_looked_at(database: str) -> None:
    run(
        database,
        TIMED,
        f"INSERT INTO docs SELECT i, 'a', 'x', NULL, {OLD} FROM generate_series(1, 90) AS i",
        f"INSERT INTO docs SELECT i, 'a', 'x', NULL, {NEW} FROM generate_series(91, 99) AS i",
    )
    examination = examined(database, table(tenant="tenant", created_at="created_at"), since=DAYS)
    (finding,) = examination.findings
    assert finding.message.startswith("completeness: 9 of 9 rows changed since 20")
    (seen,) = examination.tables
    (words,) = seen.looked_at
    assert words.startswith("only rows changed since 20")


def test_a_table_without_times_is_looked_at_as_a_whole_and_that_is_said(database: str) -> None:
    run(database, DOCS, "INSERT INTO docs VALUES (1, 'a', 'x', NULL)")
    examination = examined(database, table(), since=DAYS)
    assert failing(examination, "completeness") == {None: 1}
    (words,) = examination.tables[0].looked_at
    assert words.startswith("looked at as a whole: --since needs created_at")


def test_checks_of_more_than_the_changed_rows_are_whole_or_left_out(database: str) -> None:
    run(
        database,
        INSIGHTS,
        TIMED.replace("tenant text", "tenant text, insight_id int"),
        f"INSERT INTO docs (id, tenant, created_at) VALUES (1, 'old', {OLD})",
    )
    source = {"name": "insights", "key": ["id"], "source_key": ["insight_id"]}
    declared = table(
        tenant="tenant", tenants=["old", "gone"], created_at="created_at", source=source
    )
    examination = examined(database, declared, since=DAYS)
    assert says(examination, "tenants") == ["declared tenant 'gone' has no rows in public.docs"]
    judged = [judge(case, examination) for case in cases_of(examination)]
    skipped = {(one.case.check, one.case.beside): one.not_there for one in judged if one.not_there}
    assert "--since leaves these out" in (skipped["orphans", None] or "")
    assert "--since leaves these out" in (skipped["completeness", "public.insights"] or "")
    assert (skipped["degenerate", None] or "").startswith("no row of public.docs changed since")
    passed = {one.case.check for one in judged if not one.not_there and not one.findings}
    assert passed == {"schema", "tenants"}


def test_an_acceptance_is_kept_where_no_changed_row_fails(database: str) -> None:
    run(database, TIMED, f"INSERT INTO docs (id, tenant, created_at) VALUES (1, 'a', {NEW})")
    accept = [{"tenant": "a", "rows": 1, "until": "U", "reason": "r"}]
    declared = timed(checks={"completeness": {"accept": accept}}).replace('"U"', "2999-01-01")
    assert examined(database, declared).idle
    assert not examined(database, declared, since=DAYS).idle


def test_rows_that_did_not_change_are_not_read_where_an_index_tells_them(database: str) -> None:
    run(
        database,
        TIMED,
        "INSERT INTO docs SELECT i, 'a', repeat('x', 200), '[1,2,3]',"
        " now() - i * interval '1 minute' FROM generate_series(1, 40000) AS i",
        "CREATE INDEX ON docs (created_at)",
        "VACUUM ANALYZE docs",
    )
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        before = _sequential(connection)
        examined(database, table(created_at="created_at"), since=timedelta(hours=2))
        assert _sequential(connection) == before


def _sequential(connection: psycopg.Connection[tuple[int]]) -> int:
    row = connection.execute(
        "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'docs'"
    ).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("stamped", [False, True])
def test_a_repair_takes_and_proves_the_changed_rows_alone(
    provided_site: Site, stamped: bool
) -> None:
    site = provided_site
    fill(site.database, {"acme": 9}, missing=6)
    run(
        site.database,
        "ALTER TABLE insights ADD embedded_at timestamptz",
        f"""UPDATE insights SET embedded_at = {OLD},
            "createdAt" = CASE WHEN id <= 4 THEN {NEW} ELSE {OLD} END""",
    )
    settings = (site.folder / "integrity.toml").read_text(encoding="utf-8")
    if stamped:
        settings += 'embedded_at = "embedded_at"\n'
    site.settings(settings)
    outcome = site.run("--remediate", "--since=2 days")
    assert outcome.status == 0, outcome.output
    assert "4/4 rows re-embedded" in outcome.output
    assert re.search(r"  to probe +1 ", outcome.output)
    assert "public.insights: only rows changed since" in outcome.output
    assert missing(site.database) == {"acme": 2}
    incident = json.loads(site.report().with_suffix(".json").read_text(encoding="utf-8"))
    assert incident["tables"][0]["looked_at"][0].startswith("only rows changed since")
