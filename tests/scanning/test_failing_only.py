"""With estimated totals a scan reads the rows without an embedding, and says what it left out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from checks.items.cases import cases_of
from checks.items.judgements import judge
from checks.row_checks.applied import applied_checks
from checks.scanning.part import part_of
from checks.scanning.scan_statement import compile_scan
from checks.targets.indexes.missing_rows import immutable_conditions
from tests.builders.settings_files import TABLE, faults_of
from tests.builders.tables import DOCS, examined, failing, looking, rows, run, says, table
from tests.drivers.runs import TENANTS, fill, missing

if TYPE_CHECKING:
    from pathlib import Path

    from tests.drivers.runs import Site

pytest_plugins = ("pytester",)

ROWS, TENANTS_OF_MANY, FAILING = 40_000, 2_000, 40
MANY = f"""
INSERT INTO docs
SELECT i, CASE WHEN i % 2 = 0 THEN 'large' ELSE 't' || i % {TENANTS_OF_MANY} END, repeat('x', 200),
       CASE WHEN i % {ROWS // FAILING} = 1 THEN NULL ELSE '[1,2,3]'::vector END, now(), i % 10 = 0
FROM generate_series(1, {ROWS}) AS i
"""


def estimated(**keys: object) -> str:
    return table(tenant="tenant", totals="estimated", **keys)


@pytest.fixture
def many(database: str) -> str:
    """A table of 2,000 tenants, one of them large, in which 40 rows lack their embedding."""
    run(database, DOCS, MANY, "VACUUM ANALYZE docs")
    return database


def blocks_read(url: str, declared: str) -> int:
    """The blocks that the scan's statement touches, in the cache or outside."""
    with looking(url, declared) as looker:
        (target,) = looker.targets()
        part, checks = part_of(target, applied_checks(target))
        statement = compile_scan(target, checks, part=part).as_string(None)
        plan = looker.connection.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
        ).fetchone()
    assert plan is not None
    top = plan[0][0]["Plan"]
    return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])


def test_what_is_read_follows_the_failing_rows_once_the_printed_index_is_there(many: str) -> None:
    declared = estimated(where="not archived AND created_at > now() - interval '1 year'")
    (size,) = rows(many, "SELECT pg_relation_size('docs') / 8192")[0]
    (without,) = examined(many, declared).tables
    assert size > 1_000
    assert blocks_read(many, declared) >= size
    (index,) = without.index_advice
    assert index == (
        'CREATE INDEX CONCURRENTLY ON "public"."docs" ("tenant")'
        ' WHERE "embedding" IS NULL AND (not archived);'
    )
    run(many, index)
    (seen,) = examined(many, declared).tables
    assert seen.index_advice == ()
    assert seen.failing("completeness") == FAILING
    assert blocks_read(many, declared) < 3 * FAILING


def test_the_same_rows_fail_as_in_a_scan_of_all(many: str) -> None:
    for where in ("not archived", "archived OR tenant = 't1'"):
        counted = examined(many, table(tenant="tenant", where=where))
        of_form = examined(many, estimated(where=where))
        assert failing(of_form, "completeness") == failing(counted, "completeness")
        assert 0.8 < of_form.tables[0].rows / counted.tables[0].rows < 1.2


def test_totals_are_said_to_be_estimates(many: str) -> None:
    run(many, "UPDATE docs SET embedding = NULL WHERE id = 2")
    messages = {f.tenant: f.message for f in examined(many, estimated()).findings}
    words, about, of = messages["large"].split()[1:4]
    assert (words, about, of) == ("1", "of", "about")
    assert 15_000 < int(messages["large"].split()[4].replace(",", "")) < 25_000
    assert messages["t1001"].startswith("completeness: 20 of about 20 rows of tenant 't1001'")


def test_without_statistics_a_tenant_has_at_least_what_was_seen(database: str) -> None:
    run(database, DOCS, "INSERT INTO docs VALUES (1, 'a', 'x', NULL), (2, 'a', 'x', '[1,2,3]')")
    (finding,) = examined(database, estimated()).findings
    assert finding.message.startswith("completeness: 1 of at least 1 rows of tenant 'a'")


def test_a_check_that_was_not_made_is_neither_green_nor_red(many: str) -> None:
    run(many, "UPDATE docs SET embedding = '[0,0,0]' WHERE id = 2", "UPDATE docs SET body = ' '")
    examination = examined(many, estimated())
    judged = {case: judge(case, examination) for case in cases_of(examination)}
    unseen = {case.check: one.not_there for case, one in judged.items() if one.not_there}
    assert set(unseen) == {"dimensionality", "degenerate", "uniqueness"}
    assert all('totals = "estimated"' in reason for reason in unseen.values())
    assert {case.check for case in judged} - set(unseen) == {"schema", "tenants", "completeness"}
    (seen,) = examination.tables
    assert "not looked at: dimensionality, degenerate, uniqueness" in seen.looked_at


def test_a_declared_tenant_is_there_without_a_failing_row(many: str) -> None:
    declared = estimated(tenants=["large", "t1001", "gone"])
    assert says(examined(many, declared), "tenants") == [
        "declared tenant 'gone' has no rows in public.docs"
    ]
    (seen,) = examined(many, declared, tenants=("large",)).tables
    assert seen.measurements == ()
    assert 15_000 < seen.rows < 25_000


def test_an_acceptance_of_a_tenant_without_failing_rows_is_no_longer_needed(many: str) -> None:
    accept = [{"tenant": "large", "rows": 1, "until": "U", "reason": "r"}]
    declared = estimated(
        checks={"completeness": {"accept": accept}, "degenerate": {"accept": accept}}
    )
    findings = examined(many, declared.replace('"U"', "2999-01-01")).findings
    assert [f.says for f in findings if f.whole_table] == [
        "completeness holds for tenant 'large' in public.docs: the acceptance is no longer needed;"
        " remove it"
    ]


def test_a_large_table_with_few_failing_rows_is_told_of_the_index(
    many: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("checks.scanning.index_advice.MANY_ROWS", ROWS)
    off = {"enabled": False}
    others = {"dimensionality": off, "degenerate": off, "uniqueness": off}
    (seen,) = examined(many, table(checks=others)).tables
    (advice,) = seen.looked_at
    assert 'totals = "estimated"' in advice
    assert 'ON "public"."docs" ("id") WHERE "embedding" IS NULL;' in advice
    assert examined(many, table()).tables[0].looked_at == ()


def test_partitions_get_an_index_each(database: str) -> None:
    run(
        database,
        "CREATE TABLE docs (id int PRIMARY KEY, tenant text, body text, embedding vector)"
        " PARTITION BY RANGE (id)",
        "CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE docs_2 PARTITION OF docs FOR VALUES FROM (10) TO (20)",
        "INSERT INTO docs VALUES (1, 'a', 'x', NULL), (11, 'b', 'x', NULL)",
    )
    (seen,) = examined(database, estimated()).tables
    run(database, *seen.index_advice)
    assert len(seen.index_advice) == 2
    (seen,) = examined(database, estimated()).tables
    assert (seen.index_advice, seen.failing("completeness")) == ((), 2)


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("archived", ["archived"]),
        ("NOT archived AND tenant <> 'it''s'", ["(NOT archived)", "(tenant <> 'it''s')"]),
        ("id IN (1, 2) AND lower(tenant) = 'a'", ["(id IN (1, 2))"]),
        ("archived OR id = 1", ["(archived OR id = 1)"]),
        ("(archived OR id = 1) AND id < 5", ["((archived OR id = 1))", "(id < 5)"]),
        ("id BETWEEN 1 AND 2 AND archived", ["(id BETWEEN 1 AND 2 AND archived)"]),
        ("created_at > now()", []),
        ("created_at > CURRENT_DATE", []),
        ("created_at::date > '2026-01-01'", []),
        ("body <> E'\\'' AND archived", []),
        ("archived -- gone", []),
        (None, []),
    ],
)
def test_an_index_takes_only_conditions_that_no_clock_and_no_setting_decides(
    database: str, where: str | None, kept: list[str]
) -> None:
    run(database, DOCS)
    with looking(database, table()) as looker:
        (target,) = looker.targets()
    found = [one.as_string(None) for one in immutable_conditions(where, target.facts.columns)]
    assert found == kept
    run(database, *(f"CREATE INDEX ON docs (id) WHERE {condition}" for condition in found))


def test_estimated_totals_are_refused_where_they_would_mislead(tmp_path: Path) -> None:
    wanted = 'totals = "estimated"\n'
    share = "[tables.checks]\ncompleteness = { min = 0.9 }\n"
    store = '[tables.store]\nname = "public.s"\nkey = ["id"]\n'
    assert "accept a number of rows" in faults_of(tmp_path, TABLE + wanted + share)[0]
    assert "beside a store" in faults_of(tmp_path, TABLE + wanted + store)[0]


def test_a_repair_of_estimated_totals_heals_the_same_rows_and_its_report_says_so(
    provided_site: Site,
) -> None:
    site = provided_site
    fill(site.database, dict.fromkeys(TENANTS, 6))
    settings = (site.folder / "integrity.toml").read_text(encoding="utf-8")
    site.settings(settings.replace("[[tables]]\n", '[[tables]]\ntotals = "estimated"\n'))
    outcome = site.run("--remediate")
    assert outcome.status == 0, outcome.output
    assert missing(site.database) == {}
    assert "CREATE INDEX CONCURRENTLY" in outcome.output
    incident = json.loads(site.report().with_suffix(".json").read_text(encoding="utf-8"))
    (reported,) = incident["tables"]
    assert reported["estimated"]
    assert any(words.startswith("not looked at:") for words in reported["looked_at"])
    assert "CREATE INDEX CONCURRENTLY" in site.report().read_text(encoding="utf-8")
