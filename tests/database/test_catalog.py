"""What the catalog says, read from a real one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from checks.database.catalog import read_relation_names, read_relations
from checks.database.connection import connect
from checks.database.connection_url import parse_url
from checks.database.server import read_server
from demo.postgres import create_database, drop_database
from tests.builders.tables import role, run

if TYPE_CHECKING:
    from checks.database.catalog import Relation


def relation_of(url: str, name: str) -> Relation:
    with connect(parse_url(url, variable="DATABASE_URL")) as connection:
        found = next(r for r in read_relation_names(connection) if r.name == name)
        return read_relations(connection, [found.oid])[found.oid]


def names_of(url: str) -> set[tuple[str, str]]:
    with connect(parse_url(url, variable="DATABASE_URL")) as connection:
        return {(found.schema, found.name) for found in read_relation_names(connection)}


def test_the_server_says_what_it_is_and_where_pgvector_lives(server_url: str) -> None:
    url = create_database(server_url, "catalog_schema")
    try:
        run(url, "CREATE SCHEMA extensions", "CREATE EXTENSION vector SCHEMA extensions")
        with connect(parse_url(url, variable="DATABASE_URL")) as connection:
            server = read_server(connection)
    finally:
        drop_database(server_url, "catalog_schema")
    assert server.version_number >= 180000
    assert server.vector_schema == "extensions"
    assert server.vector_version is not None
    assert server.database == "catalog_schema"
    assert server.in_recovery is False


def test_a_server_is_known_again_by_its_identifier_and_its_database(
    server_url: str, database: str
) -> None:
    with (
        connect(parse_url(server_url, variable="A")) as one,
        connect(parse_url(database, variable="B")) as other,
    ):
        here, there, again = read_server(one), read_server(other), read_server(one)
    assert here.same_database_as(again)
    assert not here.same_database_as(there)
    assert not here.same_database_as(replace(here, system_identifier=1))
    assert here.same_database_as(replace(here, system_identifier=None, address="10.0.0.1"))


def test_a_server_that_hides_its_identifier_is_still_read(database: str) -> None:
    run(database, "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    with (
        role(database, "no_identifier") as url,
        connect(parse_url(url, variable="DATABASE_URL")) as connection,
    ):
        server = read_server(connection)
    assert server.system_identifier is None
    assert server.role == "no_identifier"


def test_columns_have_their_types_dimensions_and_storage(database: str) -> None:
    run(
        database,
        """CREATE TABLE "Docs" (
            "docId" bigint NOT NULL, title varchar(80), gone int, any_vector vector,
            fixed vector(1536), half halfvec(8), sparse sparsevec(9), reals real[],
            doubles double precision[])""",
        'ALTER TABLE "Docs" DROP COLUMN gone',
    )
    columns = relation_of(database, "Docs").columns
    assert {name: (c.type, c.dimension) for name, c in columns.items()} == {
        "docId": ("bigint", None),
        "title": ("character varying", None),
        "any_vector": ("vector", None),
        "fixed": ("vector", 1536),
        "half": ("halfvec", 8),
        "sparse": ("sparsevec", 9),
        "reals": ("real[]", None),
        "doubles": ("double precision[]", None),
    }
    assert columns["title"].full_type == "character varying(80)"
    assert columns["docId"].not_null


def test_only_sound_keys_count(database: str) -> None:
    run(
        database,
        """CREATE TABLE docs (
            a int, b int, c int, d int, e int, PRIMARY KEY (b, a), UNIQUE (c),
            UNIQUE (d) DEFERRABLE)""",
        "CREATE UNIQUE INDEX ON docs (e) WHERE e > 0",
        "CREATE UNIQUE INDEX ON docs (abs(e))",
        "CREATE UNIQUE INDEX ON docs (e) INCLUDE (d)",
        "CREATE INDEX ON docs (d)",
    )
    relation = relation_of(database, "docs")
    assert relation.primary_key == ("b", "a")
    assert sorted(relation.unique_keys) == [("b", "a"), ("c",), ("e",)]


def test_a_column_under_an_ann_index_is_known(database: str) -> None:
    run(
        database,
        "CREATE TABLE docs (id int, one vector(3), other vector(3))",
        "CREATE INDEX ON docs USING hnsw (one vector_cosine_ops)",
        "CREATE INDEX ON docs (other)",
    )
    assert relation_of(database, "docs").ann_indexed == {"one"}


@pytest.mark.parametrize(
    ("policies", "hiding"),
    [
        ([], ("(no policy admits this role)",)),
        (["mine FOR ALL USING (owner = current_user)"], ("mine",)),
        (["every FOR SELECT USING (true)"], ()),
        (["every FOR SELECT TO sees_rows USING (true)"], ()),
        (["every FOR SELECT TO pg_monitor USING (true)"], ("(no policy admits this role)",)),
        (["writes FOR UPDATE USING (true)"], ("(no policy admits this role)",)),
        (
            ["every FOR SELECT USING (true)", "mine AS RESTRICTIVE USING (owner = 'x')"],
            ("every", "mine"),
        ),
        (
            ["every FOR SELECT USING (true)", "other AS RESTRICTIVE TO pg_monitor USING (false)"],
            (),
        ),
    ],
)
def test_policies_that_may_hide_rows_are_named(
    database: str, policies: list[str], hiding: tuple[str, ...]
) -> None:
    run(database, "CREATE TABLE docs (owner text)", "ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
    with role(database, "sees_rows") as url:
        run(database, "GRANT SELECT ON docs TO sees_rows")
        for policy in policies:
            name, _, rest = policy.partition(" ")
            as_, for_ = rest.partition("AS RESTRICTIVE ")[1:]
            run(database, f"CREATE POLICY {name} ON docs {as_ or ''}{for_ or rest}")
        relation = relation_of(url, "docs")
        owner = relation_of(database, "docs")
    assert relation.hiding_policies == hiding
    assert relation.row_security
    assert not owner.row_security
    assert owner.hiding_policies == ()


def test_what_a_role_may_not_read_is_known_by_table_and_by_column(database: str) -> None:
    run(database, "CREATE TABLE shut (id int)", "CREATE TABLE ajar (id int, body text)")
    with role(database, "reads_some") as url:
        run(database, "GRANT SELECT (id) ON ajar TO reads_some")
        ajar = relation_of(url, "ajar")
        assert not relation_of(url, "shut").readable
    assert ajar.readable
    assert ajar.columns["id"].readable
    assert not ajar.columns["body"].readable


def test_relations_of_people_are_listed_and_no_others(database: str) -> None:
    run(
        database,
        "CREATE SCHEMA app",
        "CREATE TABLE app.docs (id int) PARTITION BY LIST (id)",
        "CREATE TABLE app.docs_1 PARTITION OF app.docs FOR VALUES IN (1)",
        "CREATE VIEW app.seen AS SELECT * FROM app.docs",
        "CREATE MATERIALIZED VIEW app.kept AS SELECT * FROM app.docs",
        "CREATE SEQUENCE app.counted",
        "CREATE TABLE app.of_an_extension (id int)",
        "ALTER EXTENSION vector ADD TABLE app.of_an_extension",
    )
    assert names_of(database) == {("app", name) for name in ("docs", "docs_1", "seen", "kept")}


def test_a_session_s_temporary_tables_are_none_of_ours(database: str) -> None:
    with connect(parse_url(database, variable="DATABASE_URL")) as connection:
        connection.execute("CREATE TEMPORARY TABLE docs (id int)")
        assert read_relation_names(connection) == ()


def test_a_relation_dropped_meanwhile_is_left_out(database: str) -> None:
    with connect(parse_url(database, variable="DATABASE_URL")) as connection:
        assert read_relations(connection, [999_999_999]) == {}


def test_facts_of_many_tables_take_a_fixed_number_of_statements(database: str) -> None:
    statements: list[object] = []

    class Counting(psycopg.Cursor[tuple[Any, ...]]):
        def execute(self, query: Any, *args: Any, **keywords: Any) -> Counting:
            statements.append(query)
            return super().execute(query, *args, **keywords)

    run(database, *(f"CREATE TABLE t{i} (id int)" for i in range(20)))
    with connect(parse_url(database, variable="DATABASE_URL")) as connection:
        connection.cursor_factory = Counting
        oids = [found.oid for found in read_relation_names(connection)]
        assert len(read_relations(connection, oids)) == 20
    assert len(statements) < 10
