"""What is not as declared is said at once, in words, and never taken for a verdict."""

from __future__ import annotations

import pytest

from checks.errors import CannotExamineError
from demo.postgres import create_database, drop_database
from tests.builders.tables import DOCS, examined, failing, role, run, says, table

WHOLE = "INSERT INTO docs VALUES (1, 'acme', 'x', '[1,2,3]')"


@pytest.fixture
def docs(database: str) -> str:
    """A database with one table that is as declared."""
    run(database, DOCS, WHOLE)
    return database


def problems(url: str, *tables: str) -> list[str]:
    return says(examined(url, *tables), "schema")


def test_a_table_as_declared_has_no_problem(docs: str) -> None:
    examination = examined(docs, table("public.docs", tenant="tenant"))
    assert examination.findings == ()
    assert examination.tables[0].target.name == "public.docs"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("public.dosc", "did you mean public.docs?"),
        ("doc", "did you mean public.docs?"),
        ("other.docs", "did you mean public.docs?"),
        ("workflow_insights", None),
    ],
)
def test_a_missing_table_is_a_problem_that_names_the_nearest_one(
    docs: str, name: str, hint: str | None
) -> None:
    (text,) = problems(docs, table(name))
    assert f"table {name} does not exist in database 'test_" in text
    assert text.endswith(hint) if hint else "did you mean" not in text


def test_a_table_that_may_be_missing_is_no_problem(docs: str) -> None:
    examination = examined(docs, table(), table("later", required=False))
    assert examination.findings == ()
    assert examination.table("later").target.absent


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"embedding": "embeding"}, "embedding: column 'embeding' does not exist"),
        ({"embedding": "embeding"}, 'did you mean "embedding"?'),
        ({"key": ["uid"]}, "key: column 'uid' does not exist"),
        ({"group_by": ["kind"]}, "group_by: column 'kind' does not exist"),
        ({"model_column": "model"}, "model_column: column 'model' does not exist"),
        ({"content_hash": "hash"}, "content_hash: column 'hash' does not exist"),
        ({"embedding": "body"}, "column 'body' of public.docs is of type text; expected one of"),
        ({"text": "bodi"}, 'public.docs: text: column "bodi" does not exist'),
        ({"tenant": "max(tenant)"}, "tenant: aggregate functions are not allowed"),
        ({"where": "archived ="}, "where: syntax error"),
        ({"created_at": "archived"}, "created_at: cannot cast type boolean"),
        (
            {"updated_at": "archived", "content_hash": "body"},
            "updated_at: cannot cast type boolean",
        ),
        (
            {"custom": [{"name": "odd", "failing_when": "id + 1"}]},
            "custom.odd: argument of IS TRUE must be type boolean",
        ),
    ],
)
def test_what_is_not_as_declared_is_said_with_its_key(
    docs: str, keys: dict[str, object], text: str
) -> None:
    examination = examined(docs, table(**keys))
    (said,) = says(examination, "schema")
    assert text in said
    assert not examination.tables[0].target.scannable


def test_everything_that_is_wrong_is_said_at_once(docs: str) -> None:
    run(docs, "ALTER TABLE docs ALTER embedding TYPE vector(3)")
    wrong = table(key=["uid"], dimensions=4, tenant="tenantId", where="archived = 1")
    texts = problems(docs, wrong)
    assert [
        key for text in texts for key in ("key:", "vector(3)", "tenant:", "where:") if key in text
    ] == ["key:", "vector(3)", "tenant:", "where:"]


def test_another_dimension_than_the_column_s_is_a_problem_and_every_vector_counts(
    docs: str,
) -> None:
    run(docs, "ALTER TABLE docs ALTER embedding TYPE vector(3)")
    examination = examined(docs, table(dimensions=4))
    (text,) = says(examination, "schema")
    assert "is vector(3), declared are 4 dimensions" in text
    assert failing(examination, "dimensionality") == {None: 1}


def test_a_database_without_the_extension_says_who_installs_it(server_url: str) -> None:
    url = create_database(server_url, "no_extension")
    try:
        run(url, "CREATE TABLE docs (id int PRIMARY KEY, body text)")
        (column,) = problems(url, table())
        (missing,) = problems(url, table("dogs"))
    finally:
        drop_database(server_url, "no_extension")
    for text in (column, missing):
        assert "extension vector is not installed in database 'no_extension'" in text


def test_an_array_needs_no_extension(server_url: str) -> None:
    url = create_database(server_url, "arrays_only")
    try:
        run(
            url,
            "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding real[])",
            "INSERT INTO docs VALUES (1, 'x', '{1,2,3}'), (2, 'x', '{1}'), (3, 'x', NULL)",
        )
        examination = examined(url, table())
    finally:
        drop_database(server_url, "arrays_only")
    assert says(examination, "schema") == []
    assert failing(examination, "dimensionality") == {None: 1}
    assert failing(examination, "completeness") == {None: 1}


@pytest.mark.parametrize("schema", ["extensions", "Ext 1"])
def test_the_extension_may_live_in_a_schema_off_the_search_path(
    server_url: str, schema: str
) -> None:
    url = create_database(server_url, "elsewhere")
    try:
        run(
            url,
            f'CREATE SCHEMA "{schema}"',
            f'CREATE EXTENSION vector SCHEMA "{schema}"',
            f'CREATE TABLE docs (id int PRIMARY KEY, body text, embedding "{schema}".vector)',
            "INSERT INTO docs VALUES (1, 'x', '[1]')",
        )
        assert failing(examined(url, table()), "dimensionality") == {None: 1}
    finally:
        drop_database(server_url, "elsewhere")


def test_an_empty_database_is_not_a_list_of_missing_tables(database: str) -> None:
    with pytest.raises(CannotExamineError, match="holds no tables at all"):
        examined(database, table(), table("other"))


def test_a_role_without_the_right_to_look_can_examine_nothing(docs: str) -> None:
    with role(docs, "no_right") as url, pytest.raises(CannotExamineError) as caught:
        examined(url, table(), table("later", required=False))
    assert "role 'no_right' may not read public.docs" in str(caught.value)
    assert 'GRANT SELECT ON "public"."docs" TO "no_right"' in str(caught.value)


def test_the_grant_that_an_error_names_is_enough(docs: str) -> None:
    run(
        docs,
        'CREATE SCHEMA "App 1"',
        'CREATE TABLE "App 1"."Docs" (id int PRIMARY KEY, body text, embedding vector)',
    )
    declared = table('"App 1"."Docs"')
    with role(docs, "granted") as url:
        with pytest.raises(CannotExamineError) as caught:
            examined(url, declared)
        run(docs, *str(caught.value).partition("grant it with ")[2].split("; "))
        assert says(examined(url, declared), "schema") == []


def test_one_table_out_of_reach_does_not_hide_the_others(docs: str) -> None:
    run(docs, "CREATE TABLE shut (id int PRIMARY KEY, body text, embedding vector)")
    with role(docs, "half_right") as url:
        run(docs, "GRANT SELECT ON docs TO half_right")
        examination = examined(url, table(), table("shut"))
    (text,) = says(examination, "schema")
    assert "may not read public.shut" in text
    assert examination.table("public.docs").measured


def test_a_column_out_of_reach_is_a_problem_that_names_it(docs: str) -> None:
    run(docs, "CREATE TABLE open (id int PRIMARY KEY, body text, embedding vector)")
    with role(docs, "some_columns") as url:
        run(docs, "GRANT SELECT ON open TO some_columns")
        run(docs, "GRANT SELECT (id, body) ON docs TO some_columns")
        (text,) = problems(url, table(), table("open"))
    assert "embedding: role 'some_columns' may not read column 'embedding'" in text


def test_hidden_rows_are_an_error_that_names_the_policy(docs: str) -> None:
    run(
        docs,
        "ALTER TABLE docs ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY own_tenant ON docs USING (tenant = current_user)",
    )
    with role(docs, "hidden_from") as url:
        run(docs, "GRANT SELECT ON docs TO hidden_from")
        with pytest.raises(CannotExamineError) as caught:
            examined(url, table())
        assert "row-level security (own_tenant) may hide rows of public.docs" in str(caught.value)
        run(docs, "DROP POLICY own_tenant ON docs")
        remedy = str(caught.value).partition("or with ")[2].partition(" where")[0]
        run(docs, remedy)
        examination = examined(url, table())
    assert examination.findings == ()
    assert examination.tables[0].rows == 1


def test_a_view_over_hidden_rows_is_an_error_and_no_verdict(docs: str) -> None:
    run(
        docs,
        "ALTER TABLE docs ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY own_tenant ON docs USING (tenant = current_user)",
        "CREATE VIEW seen WITH (security_invoker) AS SELECT * FROM docs",
    )
    with role(docs, "sees_a_view") as url:
        run(docs, "GRANT SELECT ON docs, seen TO sees_a_view")
        examination = examined(url, table("seen"))
    (text,) = says(examination, "schema")
    assert "row-level security" in text
    assert examination.tables[0].verdicts == ()
