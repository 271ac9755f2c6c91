"""People can see the rows that a scan counted: the query of a finding shows these and no others."""

from __future__ import annotations

from checks.findings.failing_rows import failing_rows
from checks.row_checks.applied import applied_checks
from tests.builders.tables import HOSTILE_TENANTS, examined, failing, looking, rows, run, table


def test_the_query_of_a_finding_shows_exactly_its_rows(hostile: str) -> None:
    declared = table(
        tenant="tenant",
        where="not archived -- gone",
        created_at="created_at",
        grace="1 hour",
        custom=[{"name": "odd", "failing_when": "id % 10 = 1 OR id % 10 = 7 -- odd"}],
    )
    findings = examined(hostile, declared).findings
    assert len(findings) == 3 * (len(HOSTILE_TENANTS) + 1)
    last_digit = {"completeness": 0, "odd": 1, "dimensionality": 2}
    for finding in findings:
        assert finding.query is not None
        shown = rows(hostile, finding.query)
        assert [(row[0] % 10, row[1]) for row in shown] == [
            (last_digit[finding.check], finding.tenant)
        ]


def test_the_query_of_a_finding_reads_as_a_person_would_write_it(hostile: str) -> None:
    declared = table(
        tenant="tenant", where="not archived", created_at="created_at", grace="15 minutes"
    )
    examination = examined(hostile, declared)
    queries = {f.check: f.query for f in examination.findings if f.tenant == " "}
    assert queries == {
        "completeness": (
            'SELECT "id", tenant AS tenant, created_at AS created_at\n'
            'FROM "public"."docs"\n'
            "WHERE tenant::text = ' '\n"
            "  AND (not archived)\n"
            '  AND ("embedding" IS NULL AND (body::text COLLATE "C" ~ \'[^[:space:]]\') IS TRUE'
            " AND NOT ((created_at::timestamptz > now() - '900 seconds'::interval) IS TRUE));"
        ),
        "dimensionality": (
            'SELECT "id", tenant AS tenant, created_at AS created_at\n'
            'FROM "public"."docs"\n'
            "WHERE tenant::text = ' '\n"
            "  AND (not archived)\n"
            '  AND ("embedding" IS NOT NULL AND "public"."vector_dims"("embedding") <> 3);'
        ),
    }


def test_rows_without_a_key_are_shown_by_their_text(database: str) -> None:
    run(
        database,
        "CREATE TABLE docs (body text, embedding vector)",
        "INSERT INTO docs VALUES ('find me', NULL), ('whole', '[1,2,3]')",
    )
    (finding,) = examined(database, table()).findings
    assert finding.query is not None
    assert rows(database, finding.query) == [("find me",)]


def test_a_composite_key_is_shown_whole(database: str) -> None:
    run(
        database,
        """CREATE TABLE docs (
            "docId" int, part text, tenant text, body text, embedding vector,
            PRIMARY KEY ("docId", part))""",
        "INSERT INTO docs VALUES (1, 'a', 't', 'x', NULL), (1, 'b', 't', 'x', '[1,2,3]')",
    )
    (finding,) = examined(database, table(tenant="tenant")).findings
    assert finding.query is not None
    assert rows(database, finding.query) == [(1, "a", "t")]


def test_a_tenant_of_the_table_s_name_needs_no_condition(database: str) -> None:
    run(
        database,
        "CREATE TABLE data_a (id int PRIMARY KEY, body text, embedding vector)",
        "INSERT INTO data_a VALUES (1, 'x', NULL)",
    )
    (finding,) = examined(database, table("data_*", tenant_from="table")).findings
    assert finding.query is not None
    assert rows(database, finding.query) == [(1,)]


def test_a_query_of_a_tenant_is_safe_whatever_it_is_called(hostile: str) -> None:
    with looking(hostile, table(tenant="tenant")) as looker:
        (target,) = looker.targets()
        (check, *_) = applied_checks(target)
        query = failing_rows(target, check).of("'; DROP TABLE docs; --")
    assert rows(hostile, query)
    assert failing(examined(hostile, table(tenant="tenant")), "completeness")
