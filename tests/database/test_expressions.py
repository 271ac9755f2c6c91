"""A user's SQL: one operand wherever it stands, and every fault found before any row is read."""

from __future__ import annotations

import pytest
from psycopg import sql

from checks.database.connection import connect
from checks.database.connection_url import parse_url
from checks.database.expressions import (
    SEVERAL,
    Expression,
    ExpressionType,
    beside_parameters,
    embed_sql,
)
from checks.database.expressions import faults_of as expression_faults
from tests.builders.tables import role, rows, run

TABLE = """CREATE TABLE docs (
    id int, body text, "tenantId" text, archived boolean, created_at timestamp, "user" text)"""


@pytest.fixture
def docs(database: str) -> str:
    run(database, TABLE, "INSERT INTO docs VALUES (1, 'x', 'acme', false, now(), 'me')")
    return database


def faults(url: str, source: str, kind: ExpressionType) -> list[str]:
    with connect(parse_url(url, variable="DATABASE_URL")) as connection:
        expression = Expression(key="where", source=source, type=kind)
        with connection.transaction():
            found = expression_faults(connection, sql.Identifier("docs"), [expression])
            assert connection.execute("SELECT 1").fetchone() == (1,)
            assert connection.execute("SHOW row_security").fetchone() == ("on",)
    return found


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("body", "text"),
        ('"tenantId"', "text"),
        ("id", "text"),
        ('"user"', "text"),
        ("concat_ws(E'\\n\\n', body, \"tenantId\")", "text"),
        ("body -- the text", "text"),
        ("body /* the text */", "text"),
        ("-- the text\nbody", "text"),
        ("coalesce(body, '(') || ' -- 100% of ''it'''", "text"),
        ("(SELECT max(d.id) FROM docs AS d)", "text"),
        ("docs.body", "text"),
        ("created_at", "timestamptz"),
        ("'2026-01-01'", "timestamptz"),
        ("archived", "boolean"),
        ("not archived", "boolean"),
        ("body LIKE '100%' -- and '%s'", "boolean"),
        ("body = 'a' OR archived", "boolean"),
        ("(id = 1) OR (id = 2)", "boolean"),
        ("NULL", "boolean"),
    ],
)
def test_a_sound_expression_has_no_fault(docs: str, source: str, kind: ExpressionType) -> None:
    assert faults(docs, source, kind) == []


@pytest.mark.parametrize(
    ("source", "kind", "reason"),
    [
        ("bodi", "text", 'column "bodi" does not exist'),
        ("tenantId", "text", 'column "tenantid" does not exist'),
        ("max(body)", "text", "aggregate functions are not allowed in WHERE"),
        ("row_number() OVER ()", "text", "window functions are not allowed in WHERE"),
        ("generate_series(1, 2)", "text", "set-returning functions are not allowed in WHERE"),
        ("lower(body", "text", "parentheses do not balance: 1 opened, 0 closed"),
        ("lower(body))", "text", "parentheses do not balance: 1 opened, 2 closed"),
        ("body) OR (archived", "boolean", "type boolean, not type text"),
        ("archived) OR (archived", "boolean", SEVERAL),
        ("body, id", "text", SEVERAL),
        ("body; DROP TABLE docs", "text", "syntax error"),
        ("body); DROP TABLE docs; SELECT (1", "text", "multiple commands"),
        ("1); COMMIT; DROP TABLE docs; SELECT (1", "text", "multiple commands"),
        ("body", "boolean", "must be type boolean, not type text"),
        ("id", "boolean", "must be type boolean, not type integer"),
        ("archived", "timestamptz", "cannot cast type boolean to timestamp with time zone"),
        ("body = 'x", "boolean", "a ' is not closed"),
        ("body /* the text", "text", "a /* is not closed"),
        ("no_such_function(body)", "text", "no_such_function(text) does not exist"),
        ("-- nothing but a comment", "text", "syntax error"),
        ("1 / 0 = 1", "boolean", "division by zero"),
    ],
)
def test_a_faulty_expression_is_reported_with_its_key_and_the_server_s_reason(
    docs: str, source: str, kind: ExpressionType, reason: str
) -> None:
    (fault,) = faults(docs, source, kind)
    assert fault.startswith("where: ")
    assert reason in fault
    assert rows(docs, "SELECT count(*) FROM docs") == [(1,)]


def test_every_fault_is_found_not_only_the_first(docs: str) -> None:
    wrong = [
        Expression(key=key, source=source, type="text")
        for key, source in (("text", "bodi"), ("tenant", "body"), ("where", "max(id)"))
    ]
    with connect(parse_url(docs, variable="DATABASE_URL")) as connection:
        found = expression_faults(connection, sql.Identifier("docs"), wrong)
    assert [fault.partition(":")[0] for fault in found] == ["text", "where"]


def test_no_row_is_read_to_find_faults(docs: str) -> None:
    dear = "CREATE FUNCTION dear(text) RETURNS boolean LANGUAGE plpgsql AS $$"
    run(docs, f"{dear} BEGIN RAISE 'a row was read'; END $$")
    assert faults(docs, "dear(body)", "boolean") == []


def test_policies_do_not_keep_faults_from_being_found(docs: str) -> None:
    with role(docs, "sees_few") as url:
        run(
            docs,
            "GRANT SELECT ON docs TO sees_few",
            "ALTER TABLE docs ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY every ON docs FOR SELECT USING (true)",
        )
        assert faults(url, "archived", "boolean") == []


@pytest.mark.parametrize(
    ("source", "embedded"),
    [
        ("body", "body"),
        (' "tenantId" ', '"tenantId"'),
        ('"a""b"', '"a""b"'),
        ("a OR b", "(a OR b)"),
        ("a.b", "(a.b)"),
        ("body -- text", "(body -- text\n)"),
        ("'--'", "('--'\n)"),
    ],
)
def test_an_expression_is_one_operand_and_no_noisier_than_it_must_be(
    source: str, embedded: str
) -> None:
    assert embed_sql(source).as_string(None) == embedded


def test_a_percent_sign_stands_for_itself_beside_parameters(docs: str) -> None:
    piece = beside_parameters(embed_sql("'100%' || '%s'"))
    with connect(parse_url(docs, variable="DATABASE_URL")) as connection:
        statement = sql.SQL("SELECT {}, %s::text").format(piece)
        assert connection.execute(statement, ("y",)).fetchone() == ("100%%s", "y")
