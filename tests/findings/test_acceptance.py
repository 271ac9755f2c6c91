"""Known failures someone agreed to live with: expected, until they are not what was agreed to."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from checks.findings.acceptance import Decision, decide, today_in_utc
from checks.items.cases import SEGMENTS_WITH_ITEMS, cases_of
from checks.items.judgements import judge
from checks.settings.table_checks import Accepted
from remediation.run.checks_to_heal import accepted_checks, repairable_checks
from tests.builders.tables import DOCS, examined, run, table

if TYPE_CHECKING:
    from checks.examination.examination import Examination

LAST_DAY = date(2027, 1, 31)
TODAY = date(2027, 1, 30)


def acceptance(tenant: str | None = "acme", *, rows: int = 3, **keys: object) -> dict[str, object]:
    named = {} if tenant is None else {"tenant": tenant}
    return {**named, "rows": rows, "until": LAST_DAY, "reason": "scanned pages", **keys}


def declared(*accepted: dict[str, object], check: str = "completeness", **keys: object) -> str:
    """`docs` with its tenants, and acceptances of one check."""
    settings = {check: {"accept": list(accepted), **keys}}
    return table(tenant="tenant", checks=settings)


def verdicts(examination: Examination, check: str = "completeness") -> dict[str | None, str]:
    """How each item of a check ends, by its tenant."""
    return {
        case.tenant: "fails"
        if judge(case, examination).open_findings
        else "is accepted"
        if judge(case, examination).accepted
        else "passes"
        for case in cases_of(examination)
        if case.check == check
    }


def message(examination: Examination, tenant: str | None = "acme") -> str:
    (words,) = (
        judge(case, examination).message
        for case in cases_of(examination)
        if (case.check, case.tenant) == ("completeness", tenant)
    )
    return words


@pytest.fixture
def docs(database: str) -> str:
    """Ten rows of each of two tenants and ten of none; three of each lack their embedding."""
    run(
        database,
        DOCS,
        "INSERT INTO docs SELECT i, (ARRAY['acme', 'globex'])[1 + i % 3], 'x',"
        " CASE WHEN i > 9 THEN '[1,2,3]'::vector END FROM generate_series(1, 30) AS i",
    )
    return database


@pytest.mark.parametrize(
    ("failing", "today", "accepted"),
    [
        (1, TODAY, True),
        (3, TODAY, True),
        (4, TODAY, False),
        (3, LAST_DAY, True),
        (3, LAST_DAY + timedelta(days=1), False),
        (4, LAST_DAY + timedelta(days=1), False),
    ],
)
def test_an_acceptance_covers_its_rows_through_its_last_day(
    failing: int, today: date, accepted: bool
) -> None:
    agreed = Accepted(tenant="acme", rows=3, until=LAST_DAY, reason="scanned pages")
    decision = decide(agreed, failing=failing, today=today)
    assert decision.accepted is accepted
    assert "scanned pages" in decision.words
    assert "2027-01-31" in decision.words or failing == 4
    assert ("has passed" in decision.words) is (today > LAST_DAY)
    assert ("there are more" in decision.words) is (failing > 3)


def test_a_decision_says_how_long_and_why() -> None:
    agreed = Accepted(rows=3, until=LAST_DAY, reason="scanned pages")
    assert decide(agreed, failing=2, today=TODAY) == Decision(
        accepted=True, words="accepted until 2027-01-31, up to 3 rows: scanned pages"
    )


def test_today_is_that_of_utc() -> None:
    before = datetime.now(UTC).date()
    assert before <= today_in_utc() <= datetime.now(UTC).date()


def test_an_accepted_finding_is_one_but_not_an_open_one(docs: str) -> None:
    examination = examined(docs, declared(acceptance()), today=TODAY)
    assert verdicts(examination) == {"acme": "is accepted", "globex": "fails", None: "fails"}
    assert {f.tenant for f in examination.findings} == {"acme", "globex", None}
    assert {f.tenant for f in examination.open_findings} == {"globex", None}
    (table_,) = examination.tables
    assert table_.accepted == {("completeness", "acme")}


def test_a_tenant_left_out_means_the_rows_without_a_tenant(docs: str) -> None:
    examination = examined(docs, declared(acceptance(None)), today=TODAY)
    assert verdicts(examination) == {"acme": "fails", "globex": "fails", None: "is accepted"}


def test_what_has_grown_fails_again(docs: str) -> None:
    examination = examined(docs, declared(acceptance(rows=2)), today=TODAY)
    assert verdicts(examination)["acme"] == "fails"
    assert "2 rows were accepted (scanned pages), there are more" in message(examination)


def test_what_has_run_out_fails_again(docs: str) -> None:
    examination = examined(docs, declared(acceptance()), today=date(2027, 2, 1))
    assert verdicts(examination)["acme"] == "fails"
    words = "it was accepted until 2027-01-31 (scanned pages), a day that has passed"
    assert words in message(examination)


def test_what_is_no_longer_needed_fails(docs: str) -> None:
    run(docs, "UPDATE docs SET embedding = '[1,2,3]' WHERE tenant = 'acme'")
    examination = examined(docs, declared(acceptance()), today=TODAY)
    assert verdicts(examination)["acme"] == "fails"
    assert message(examination) == (
        "completeness: completeness holds for tenant 'acme' in public.docs: the acceptance is no"
        " longer needed; remove it"
    )


def test_what_the_threshold_tolerates_needs_no_acceptance(docs: str) -> None:
    examination = examined(docs, declared(acceptance(), min=0.7), today=TODAY)
    assert verdicts(examination) == {"acme": "fails", "globex": "passes", None: "passes"}
    assert "no longer needed" in message(examination)
    (table_,) = examination.tables
    assert table_.accepted == frozenset()


def test_a_tenant_that_is_not_there_is_told(docs: str) -> None:
    examination = examined(docs, declared(acceptance("amce")), today=TODAY)
    assert verdicts(examination)["amce"] == "fails"
    assert message(examination, "amce") == (
        "completeness: an acceptance of completeness is for tenant 'amce', who has no rows in"
        " public.docs; correct its tenant, or remove it"
    )


def test_an_acceptance_of_a_check_that_is_not_made_is_told(docs: str) -> None:
    examination = examined(docs, declared(acceptance(), check="freshness"), today=TODAY)
    assert verdicts(examination, "freshness") == {"acme": "fails"}
    (finding,) = examination.idle
    assert "freshness does not apply to public.docs" in finding.says


def test_an_idle_acceptance_of_a_warning_is_a_warning(docs: str) -> None:
    examination = examined(docs, declared(acceptance("amce"), severity="warning"), today=TODAY)
    assert [finding.severity for finding in examination.idle] == ["warning"]


def test_nothing_is_said_of_tenants_that_are_not_looked_at(docs: str) -> None:
    accepted = declared(acceptance("amce"), acceptance("acme"))
    examination = examined(docs, accepted, tenants=("globex",), today=TODAY)
    assert examination.idle == ()
    assert set(verdicts(examination)) == {"globex"}


def test_nothing_is_said_where_a_table_could_not_be_looked_at(docs: str) -> None:
    broken = declared(acceptance("amce")).replace('text = "body"', 'text = "bdoy"')
    assert examined(docs, broken, today=TODAY).idle == ()


def test_a_declared_tenant_that_is_gone_can_be_accepted(docs: str) -> None:
    checks = {"tenants": {"accept": [acceptance("gone", rows=1), acceptance("acme", rows=1)]}}
    entry = table(tenant="tenant", tenants=["gone", "acme"], checks=checks)
    examination = examined(docs, entry, today=TODAY)
    assert verdicts(examination, "tenants") == {"gone": "is accepted", "acme": "fails"}


def test_a_missing_index_can_be_accepted(docs: str) -> None:
    entry = table(index="hnsw", checks={"index": {"accept": [acceptance(None, rows=1)]}})
    assert verdicts(examined(docs, entry, today=TODAY), "index") == {None: "is accepted"}
    run(docs, "CREATE INDEX ON docs USING hnsw ((embedding::vector(3)) vector_cosine_ops)")
    assert verdicts(examined(docs, entry, today=TODAY), "index") == {None: "fails"}


def test_a_custom_check_can_be_accepted(docs: str) -> None:
    odd = [{"name": "odd", "failing_when": "id = 3"}]
    entry = table(
        tenant="tenant", custom=odd, checks={"odd": {"accept": [acceptance("acme", rows=1)]}}
    )
    assert verdicts(examined(docs, entry, today=TODAY), "odd") == {
        "acme": "is accepted",
        "globex": "passes",
        None: "passes",
    }


def test_an_acceptance_of_a_pattern_is_needed_while_any_of_its_tables_needs_it(docs: str) -> None:
    run(
        docs,
        "CREATE TABLE docs_2 AS SELECT * FROM docs",
        "ALTER TABLE docs RENAME TO docs_1",
        "UPDATE docs_1 SET embedding = '[1,2,3]'",
    )
    accepted = {"completeness": {"accept": [acceptance()]}}
    entry = table("docs_*", tenant="tenant", checks=accepted)
    examination = examined(docs, entry, today=TODAY)
    assert examination.idle == ()
    assert {(f.table, f.tenant) for f in examination.open_findings} == {
        ("public.docs_2", "globex"),
        ("public.docs_2", None),
    }
    only_one = examined(docs, entry, only=["public.docs_1"], today=TODAY)
    assert only_one.idle == ()
    run(docs, "UPDATE docs_2 SET embedding = '[1,2,3]'")
    (finding,) = examined(docs, entry, today=TODAY).idle
    assert "no longer needed" in finding.says


def test_beyond_500_segments_accepted_tenants_are_left_out_of_the_list(database: str) -> None:
    run(
        database,
        DOCS,
        "INSERT INTO docs SELECT i, 't' || i, 'x', CASE WHEN i > 2 THEN '[1,2,3]'::vector END"
        f" FROM generate_series(1, {SEGMENTS_WITH_ITEMS + 1}) AS i",
    )
    one = examined(database, declared(acceptance("t1")), today=TODAY)
    assert verdicts(one) == {None: "fails"}
    assert "tenant 't2'" in message(one, None)
    assert "tenant 't1'" not in message(one, None)
    both = examined(database, declared(acceptance("t1"), acceptance("t2")), today=TODAY)
    assert verdicts(both) == {None: "is accepted"}
    idle = examined(database, declared(acceptance("t1"), acceptance("t9")), today=TODAY)
    assert "completeness holds for tenant 't9'" in message(idle, None)


def test_accepted_failures_are_none_of_a_repair_s_and_no_healthy_rows(docs: str) -> None:
    (seen,) = examined(docs, declared(acceptance(), acceptance(None)), today=TODAY).tables
    (check,) = repairable_checks(seen)
    (whole,) = accepted_checks(seen)
    assert "'{acme}'" in check.predicate.as_string(None)
    assert "tenant IS NULL" in check.predicate.as_string(None)
    assert whole in seen.checks
    every = declared(acceptance(), acceptance(None), acceptance("globex"))
    (seen,) = examined(docs, every, today=TODAY).tables
    assert repairable_checks(seen) == ()


def test_rows_beside_a_table_can_be_accepted(docs: str) -> None:
    run(
        docs,
        "CREATE TABLE vectors (doc_id bigint PRIMARY KEY, embedding vector)",
        "INSERT INTO vectors SELECT id, '[1,2,3]' FROM docs",
        "INSERT INTO vectors VALUES (98, '[1,2,3]'), (99, '[1,2,3]')",
    )
    store = {"name": "public.vectors", "key": ["doc_id"]}
    checks = {
        "orphans": {"accept": [acceptance(None, rows=2)]},
        "uniqueness": {"enabled": False},
    }
    entry = table(tenant="tenant", store=store, checks=checks)
    assert examined(docs, entry, today=TODAY).open_findings == ()
    run(docs, "INSERT INTO vectors VALUES (100, '[1,2,3]')")
    (finding,) = examined(docs, entry, today=TODAY).open_findings
    assert "there are more" in finding.message
    run(docs, "DELETE FROM vectors WHERE doc_id > 90")
    (finding,) = examined(docs, entry, today=TODAY).open_findings
    assert "no longer needed" in finding.message
