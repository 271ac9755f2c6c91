"""Which tables of a real database a declaration means, and whose their rows are."""

from __future__ import annotations

import pytest

from checks.database.connection import read_only
from checks.database.server import read_server
from checks.examination.selection import UnknownNameError
from checks.targets.resolution import resolve
from tests.builders.tables import DOCS, examined, failing, looking, run, says, table

WHOLE = "INSERT INTO docs VALUES (1, 'acme', 'x', '[1,2,3]')"


@pytest.fixture
def docs(database: str) -> str:
    """A database with one table that is as declared."""
    run(database, DOCS, WHOLE)
    return database


def problems(url: str, *tables: str) -> list[str]:
    return says(examined(url, *tables), "schema")


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("CREATE VIEW other AS SELECT * FROM docs", "view"),
        ("CREATE MATERIALIZED VIEW other AS SELECT * FROM docs", "materialised view"),
    ],
)
def test_a_view_can_be_checked_and_never_repaired(docs: str, statement: str, kind: str) -> None:
    run(docs, "INSERT INTO docs VALUES (2, 'acme', 'x', NULL), (3, 'b', 'x', '[1]')", statement)
    examination = examined(docs, table("other", key=["id"], tenant="tenant"))
    assert failing(examination, "completeness") == {"acme": 1}
    assert failing(examination, "dimensionality") == {"b": 1}
    unrepairable = examination.tables[0].target.unrepairable
    assert unrepairable is not None
    assert f"public.other is a {kind}" in unrepairable
    assert all(unrepairable in finding.message for finding in examination.findings)


def test_only_a_finding_that_a_repair_would_mend_says_why_none_can(docs: str) -> None:
    run(docs, "CREATE VIEW other AS SELECT * FROM docs")
    custom = [{"name": "odd", "failing_when": "id % 2 = 1"}]
    (finding,) = examined(docs, table("other", tenant="tenant", custom=custom)).findings
    assert (finding.check, "no repair can mend this" in finding.message) == ("odd", False)


def test_a_foreign_table_that_answers_nothing_is_an_error_and_never_repaired(docs: str) -> None:
    run(
        docs,
        "CREATE FOREIGN DATA WRAPPER without_handler",
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER without_handler",
        "CREATE FOREIGN TABLE other (id int, body text, embedding vector) SERVER elsewhere",
    )
    examination = examined(docs, table("other", key=["id"]), table())
    (finding,) = (f for f in examination.findings if f.check == "schema")
    assert (finding.table, "has no handler" in finding.says) == ("public.other", True)
    unrepairable = examination.table("public.other").target.unrepairable
    assert "public.other is a foreign table" in (unrepairable or "")
    assert examination.table("public.docs").measured


def test_a_partitioned_table_is_one_target_with_the_rows_of_all_partitions(database: str) -> None:
    run(
        database,
        """CREATE TABLE docs (
            id int, tenant text, body text, embedding vector, PRIMARY KEY (tenant, id)
        ) PARTITION BY LIST (tenant)""",
        "CREATE TABLE docs_a PARTITION OF docs FOR VALUES IN ('a')",
        "CREATE TABLE docs_b PARTITION OF docs FOR VALUES IN ('b')",
        "INSERT INTO docs VALUES (1, 'a', 'x', NULL), (1, 'b', 'x', NULL), (2, 'b', 'x', NULL)",
    )
    assert problems(database, table("docs_*")) == ["no table matches docs_*"]
    assert [t.target.name for t in examined(database, table("docs_a")).tables] == ["public.docs_a"]
    examination = examined(database, table("doc*", tenant="tenant"))
    assert [t.target.name for t in examination.tables] == ["public.docs"]
    assert failing(examination, "completeness") == {"a": 1, "b": 2}
    assert examination.tables[0].target.key_names == ("tenant", "id")
    assert examination.tables[0].target.unrepairable is None


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ([], "has no primary key"),
        (["id"], "no unique, valid, non-partial index on (id)"),
        (["loose"], "has nullable columns"),
        (["a", "b"], None),
        (["b", "a"], None),
    ],
)
def test_a_repair_needs_a_sound_key(database: str, key: list[str], reason: str | None) -> None:
    run(
        database,
        """CREATE TABLE docs (
            id int NOT NULL, loose int UNIQUE, a int NOT NULL, b int NOT NULL,
            body text, embedding vector, UNIQUE (a, b))""",
        "INSERT INTO docs VALUES (1, 1, 1, 1, 'x', NULL)",
    )
    keys = {"key": key} if key else {}
    examination = examined(database, table(**keys))
    assert failing(examination, "completeness") == {None: 1}
    unrepairable = examination.tables[0].target.unrepairable
    assert reason in unrepairable if reason and unrepairable else unrepairable is reason


def test_quoted_camel_case_is_kept(database: str) -> None:
    run(
        database,
        'CREATE SCHEMA "App"',
        """CREATE TABLE "App"."WorkflowInsights" (
            "docId" int PRIMARY KEY, "tenantId" text, "Body" text, "bodyEmbedding" vector,
            "createdAt" timestamp)""",
        """INSERT INTO "App"."WorkflowInsights"
           VALUES (1, 'acme', 'x', NULL, '2026-01-02 03:04')""",
    )
    declared = table(
        '"App"."WorkflowInsights"',
        tenant='"tenantId"',
        text='"Body"',
        embedding='"bodyEmbedding"',
        created_at='"createdAt"',
    )
    (finding,) = examined(database, declared).findings
    assert finding.table == '"App"."WorkflowInsights"'
    assert "created 2026-01-02 03:04 UTC" in finding.message
    assert problems(database, table("App.WorkflowInsights")) == [
        "table app.workflowinsights does not exist in database"
        f' \'{database.rpartition("/")[2]}\'; did you mean "App"."WorkflowInsights"?'
    ]


@pytest.fixture
def schemas(database: str) -> str:
    """Two tenants with a schema each, and a table of another name."""
    for schema in ("tenant_acme", "tenant_Globex 7"):
        run(
            database,
            f'CREATE SCHEMA "{schema}"',
            f'CREATE TABLE "{schema}".documents (id int PRIMARY KEY, body text, embedding vector)',
            f"INSERT INTO \"{schema}\".documents VALUES (1, 'x', NULL)",
        )
    run(database, "CREATE TABLE tenant_acme.other (id int)")
    return database


def test_a_pattern_means_a_table_of_each_schema_and_tells_the_tenant(schemas: str) -> None:
    examination = examined(schemas, table("tenant_*.documents", tenant_from="schema"))
    assert {t.target.name: t.measurements[0].segment.tenant for t in examination.tables} == {
        "tenant_acme.documents": "acme",
        '"tenant_Globex 7".documents': "Globex 7",
    }
    assert failing(examination, "completeness") == {"acme": 1, "Globex 7": 1}


def test_an_exact_entry_wins_over_a_pattern(schemas: str) -> None:
    examination = examined(
        schemas,
        table("tenant_*.documents", tenant_from="schema"),
        table("tenant_acme.documents", tenant="'own entry'"),
    )
    assert [t.target.name for t in examination.tables] == [
        '"tenant_Globex 7".documents',
        "tenant_acme.documents",
    ]
    assert set(failing(examination, "completeness")) == {"Globex 7", "own entry"}


def test_a_table_declared_by_two_entries_is_checked_once_and_said(schemas: str) -> None:
    examination = examined(schemas, table("tenant_*.documents"), table("tenant_a*.documents"))
    assert [t.target.name for t in examination.tables].count("tenant_acme.documents") == 1
    (text,) = says(examination, "schema")
    assert "declared by two entries, tenant_*.documents and tenant_a*.documents" in text
    assert failing(examination, "completeness")


def test_a_pattern_that_matches_nothing_is_a_problem_unless_it_may(schemas: str) -> None:
    assert problems(schemas, table("shop_*.documents")) == ["no table matches shop_*.documents"]
    assert problems(schemas, table("shop_*.documents", required=False)) == []


def test_each_declared_tenant_of_a_pattern_is_expected_in_its_own_table(schemas: str) -> None:
    run(schemas, "DELETE FROM tenant_acme.documents")
    tenants = ["acme", "Globex 7", "Initech"]
    examination = examined(
        schemas, table("tenant_*.documents", tenant_from="schema", tenants=tenants)
    )
    assert says(examination, "tenants") == [
        "declared tenant 'acme' has no rows in tenant_acme.documents"
    ]
    (text,) = says(examination, "schema")
    assert "declared tenant 'Initech' has no table: \"tenant_Initech\".documents" in text


def test_the_part_of_a_table_s_name_may_be_the_tenant(database: str) -> None:
    for name in ("data_acme", "data_b%s"):
        run(
            database,
            f'CREATE TABLE "{name}" (id int PRIMARY KEY, body text, embedding vector)',
            f"INSERT INTO \"{name}\" VALUES (1, 'x', NULL)",
        )
    examination = examined(database, table("data_*", tenant_from="table"))
    assert failing(examination, "completeness") == {"acme": 1, "b%s": 1}


def test_an_unqualified_name_goes_by_the_search_path(schemas: str) -> None:
    assert "does not exist" in problems(schemas, table("documents"))[0]
    examination = examined(f"{schemas}?schema=tenant_acme", table("documents"))
    assert [t.target.name for t in examination.tables] == ["tenant_acme.documents"]


@pytest.mark.parametrize(
    "name",
    ["documents", "tenant_acme.documents", "tenant_*.documents", "tenant_Globex 7.documents"],
)
def test_a_table_is_selected_by_any_of_its_names(schemas: str, name: str) -> None:
    assert examined(schemas, table("tenant_*.documents"), only=[name]).tables


def test_a_selected_table_that_is_not_declared_is_refused(docs: str) -> None:
    with pytest.raises(UnknownNameError, match=r"--table=dogs is not declared.*public\.docs"):
        examined(docs, table(), only=["dogs"])


def test_resolving_many_tables_again_gives_equal_targets(schemas: str) -> None:
    with looking(schemas, table("tenant_*.documents", tenant_from="schema")) as looker:
        assert looker.targets() == looker.targets()


def test_resolving_leaves_hidden_rows_an_error(docs: str) -> None:
    with looking(docs, table()) as looker:
        place, timeout = looker.place, looker.settings.database.statement_timeout
        with read_only(looker.connection, place, statement_timeout=timeout) as connection:
            resolve(connection, looker.settings, read_server(connection))
            assert connection.execute("SHOW row_security").fetchone() == ("off",)
