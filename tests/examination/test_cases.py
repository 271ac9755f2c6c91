"""What becomes an item, under which id, and how an examination judges it."""

from __future__ import annotations

import re
from dataclasses import replace

import psycopg
import pytest

from checks.items import cases as cases_module
from checks.items.cases import SEGMENTS_WITH_ITEMS, Case, cases_declared, cases_of
from checks.items.judgements import QUERIES_SHOWN, TENANTS_LISTED, judge
from tests.builders.tables import DOCS, HOSTILE_TENANTS, examined, run, settings, table

ROW_CHECKS = ("completeness", "dimensionality", "degenerate", "uniqueness")
"""Those that apply to any table."""

SAFE = re.compile(r"[a-z0-9_.-]+")


def fill(url: str, tenants: list[str | None], *, whole: bool = False) -> None:
    """A row for each tenant, in the table of most tests."""
    run(url, DOCS)
    vector = "[1,2,3]" if whole else None
    statement = "COPY docs (id, tenant, body, embedding) FROM STDIN"
    with (
        psycopg.connect(url, autocommit=True) as connection,
        connection.cursor() as cursor,
        cursor.copy(statement) as copy,
    ):
        for position, tenant in enumerate(tenants):
            copy.write_row((position, tenant, "x", vector))


def test_ids_are_safe_and_unique_for_hostile_names() -> None:
    tenants = (None, "acme", "Acme", "ACME", "a-b", "a_b", "a b", *HOSTILE_TENANTS)
    tables = ("public.docs", 'public."Docs"', 'public."docs "', 'public."docs\n"', "app.docs")
    cases = [
        Case(check=check, table=name, tenant=tenant, whole_table=whole)
        for check in ROW_CHECKS
        for name in (*tables, "public." + "d" * 40, "public." + "d" * 41)
        for tenant, whole in ((None, True), *((tenant, False) for tenant in tenants))
    ]
    ids = [case.id for case in cases]
    assert len(set(ids)) == len(ids)
    assert all(SAFE.fullmatch(one) and len(one) < 120 for one in ids)


def test_ids_are_the_same_in_every_run() -> None:
    whole = Case(check="schema", table="public.docs")
    acme = Case(check="completeness", table="public.docs", tenant="acme", whole_table=False)
    null = Case(check="completeness", table="public.docs", tenant=None, whole_table=False)
    assert whole.id == "schema-docs"
    assert acme.id == "completeness-docs-acme-c522d3"
    assert null.id == "completeness-docs-null-3968f7"


def test_every_check_of_every_segment_is_a_case(database: str) -> None:
    fill(database, [None, *HOSTILE_TENANTS])
    declared = table(
        tenant="tenant", tenants=["acme"], custom=[{"name": "odd", "failing_when": "id % 2 = 1"}]
    )
    cases = cases_of(examined(database, declared))
    expected = {("schema", None, True), ("tenants", "acme", False)} | {
        (check, tenant, False)
        for check in (*ROW_CHECKS, "odd")
        for tenant in (None, *HOSTILE_TENANTS)
    }
    assert {(case.check, case.tenant, case.whole_table) for case in cases} == expected
    assert len(cases) == len(expected)


def test_only_the_broken_segments_are_judged_to_fail(database: str) -> None:
    fill(database, [None, *HOSTILE_TENANTS])
    run(database, "UPDATE docs SET embedding = '[1,2,3]' WHERE id % 2 = 0")
    examination = examined(database, table(tenant="tenant"))
    found = {
        case.tenant: bool(judge(case, examination).findings)
        for case in cases_of(examination)
        if case.check == "completeness"
    }
    everyone = [None, *HOSTILE_TENANTS]
    assert found == {tenant: position % 2 == 1 for position, tenant in enumerate(everyone)}


@pytest.mark.parametrize(("more", "whole_table"), [(0, False), (1, True)])
def test_beyond_500_segments_there_is_one_case_per_check_and_table(
    database: str, more: int, whole_table: bool
) -> None:
    fill(database, [f"t{i}" for i in range(SEGMENTS_WITH_ITEMS + more)])
    examination = examined(database, table(tenant="tenant"))
    cases = [case for case in cases_of(examination) if case.check == "completeness"]
    assert len(cases) == (1 if whole_table else SEGMENTS_WITH_ITEMS)
    assert {case.whole_table for case in cases} == {whole_table}
    if whole_table:
        judgement = judge(cases[0], examination)
        assert len(judgement.findings) == SEGMENTS_WITH_ITEMS + more
        left_out = SEGMENTS_WITH_ITEMS + more - TENANTS_LISTED
        assert judgement.message.endswith(
            f"… and {left_out:,} more: --report writes all of them as JSON"
        )
        assert judgement.message.count("have text but no embedding") == TENANTS_LISTED
        assert judgement.message.startswith("completeness: 501 rows of 501 tenants in public.docs")
        assert judgement.message.count("show them with") == QUERIES_SHOWN


def test_of_many_failing_tenants_the_worst_come_first(database: str) -> None:
    fill(database, [f"t{i}" for i in range(SEGMENTS_WITH_ITEMS + 1)])
    run(
        database,
        "INSERT INTO docs SELECT 9000 + i, 't7', 'x', NULL FROM generate_series(1, 5) AS i",
    )
    examination = examined(database, table(tenant="tenant"))
    (case,) = [case for case in cases_of(examination) if case.check == "completeness"]
    first = judge(case, examination).message.splitlines()[1]
    assert first.startswith("completeness: 6 of 6 rows of tenant 't7'")


def test_segments_of_all_tables_of_one_entry_are_counted_together(database: str) -> None:
    for name in ("data_a", "data_b"):
        run(
            database,
            f"CREATE TABLE {name} (id int PRIMARY KEY, tenant text, body text, embedding vector)",
            f"INSERT INTO {name} SELECT i, i::text, 'x' FROM generate_series(1, 300) AS i",
        )
    examination = examined(database, table("data_*", tenant="tenant"))
    cases = [case for case in cases_of(examination) if case.check == "completeness"]
    assert [(case.table, case.whole_table) for case in cases] == [
        ("public.data_a", True),
        ("public.data_b", True),
    ]


@pytest.mark.thorough
def test_each_of_twenty_thousand_failing_tenants_is_a_finding(database: str) -> None:
    fill(database, [f"t{i}" for i in range(20_000)])
    examination = examined(database, table(tenant="tenant"))
    (case,) = [case for case in cases_of(examination) if case.check == "completeness"]
    assert len(judge(case, examination).findings) == 20_000
    assert len(examination.findings) == 20_000


def test_a_table_that_could_not_be_scanned_has_cases_that_say_so(database: str) -> None:
    run(database, DOCS)
    examination = examined(database, table(embedding="vec", tenant="tenant"), table("gone"))
    judgements = {
        (case.check, case.table): judge(case, examination) for case in cases_of(examination)
    }
    assert set(judgements) == {
        (check, name)
        for check in ("schema", "tenants", *ROW_CHECKS)
        for name in ("public.docs", "gone")
    }
    for (check, name), judgement in judgements.items():
        assert bool(judgement.findings) == (check == "schema")
        if check != "schema":
            assert judgement.not_examined == f"{name} could not be examined: see its schema check"


def test_a_table_that_is_not_there_yet_has_one_case_that_is_no_verdict(database: str) -> None:
    run(database, DOCS, "INSERT INTO docs VALUES (1, 'a', 'x', '[1,2,3]')")
    examination = examined(database, table(), table("later", required=False))
    (case,) = [case for case in cases_of(examination) if case.table == "later"]
    assert case.check == "schema"
    assert judge(case, examination).not_there == "later is not there yet (required = false)"


def test_a_wiped_table_fails_its_tenants_case_and_no_other(database: str) -> None:
    run(database, DOCS)
    examination = examined(database, table())
    judgements = {case: judge(case, examination) for case in cases_of(examination)}
    assert {case.id: len(judgement.findings) for case, judgement in judgements.items()} == {
        "schema-docs": 0,
        "tenants-docs": 1,
        **{f"{check}-docs": 0 for check in ROW_CHECKS},
    }
    assert [j.not_there for case, j in judgements.items() if case.check == "completeness"] == [
        "public.docs has no rows to check"
    ]


def test_the_tenants_case_of_a_table_is_there_also_when_it_holds(database: str) -> None:
    fill(database, ["a"], whole=True)
    examination = examined(database, table(tenant="tenant"))
    (case,) = [case for case in cases_of(examination) if case.check == "tenants"]
    assert case.id == "tenants-docs"
    assert judge(case, examination).findings == ()
    no_rows_needed: tuple[dict[str, object], ...] = (
        {"required": False},
        {"checks": {"tenants": {"enabled": False}}},
    )
    for keys in no_rows_needed:
        examination = examined(database, table(tenant="tenant", **keys))
        assert [case for case in cases_of(examination) if case.check == "tenants"] == []


def test_a_segment_that_is_gone_is_no_verdict(database: str) -> None:
    fill(database, ["a", "b"])
    before = examined(database, table(tenant="tenant"))
    run(database, "DELETE FROM docs WHERE tenant = 'a'")
    after = examined(database, table(tenant="tenant"))
    case = Case(check="completeness", table="public.docs", tenant="a", whole_table=False)
    assert judge(case, before).findings
    assert judge(case, after).not_examined == "the tenant's rows are no longer in public.docs"


def test_an_error_of_the_scan_is_no_verdict_of_any_case(database: str) -> None:
    fill(database, ["a"])
    examination = examined(database, table(tenant="tenant"))
    (seen,) = examination.tables
    broken = replace(seen, measurements=(), verdicts=(), error="public.docs could not be measured")
    again = examination.updated([broken])
    judged = {case.check: judge(case, again) for case in cases_of(examination)}
    assert judged["schema"].findings[0].says == "public.docs could not be measured"
    for check in ("tenants", *ROW_CHECKS):
        assert judged[check].not_examined == "public.docs could not be measured"


def test_cases_told_by_the_settings_name_each_check_and_table() -> None:
    declared = settings(
        table(custom=[{"name": "odd", "failing_when": "true"}]),
        table("other", checks={"completeness": {"enabled": False}, "tenants": {"enabled": False}}),
    )
    assert [case.id for case in cases_declared(declared)] == [
        "schema-docs",
        "tenants-docs",
        *(f"{check}-docs" for check in ROW_CHECKS),
        "odd-docs",
        "schema-other",
        *(f"{check}-other" for check in ROW_CHECKS if check != "completeness"),
    ]


def test_beyond_500_tables_of_an_entry_there_is_one_case_per_check(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases_module, "SEGMENTS_WITH_ITEMS", 2)
    for name, vector in (("data_a", "NULL"), ("data_b", "'[1,2,3]'"), ("data_c", "NULL")):
        run(
            database,
            f"CREATE TABLE {name} (id int PRIMARY KEY, body text, embedding vector)",
            f"INSERT INTO {name} VALUES (1, 'x', {vector})",
        )
    run(database, "CREATE TABLE data_d (id int PRIMARY KEY, body text)")
    examination = examined(database, table("data_*"))
    cases = {case.check: case for case in cases_of(examination)}
    assert len(cases) == len(cases_of(examination)) == 2 + len(ROW_CHECKS)
    assert {case.table for case in cases.values()} == {"data_*"}
    schema = judge(cases["schema"], examination)
    assert [finding.table for finding in schema.findings] == ["public.data_d"]
    missing = judge(cases["completeness"], examination)
    # One that could not be looked at is an error, which tells of the others' rows too.
    assert missing.not_examined is not None
    assert "public.data_d" in missing.not_examined
    assert "2 rows of 2 tenants in data_*" in missing.not_examined
