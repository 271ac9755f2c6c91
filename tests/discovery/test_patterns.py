"""Tables of one layout are declared together by a pattern, which stands for no other table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.builders.tables import run, says
from tests.drivers.discoveries import discovered, examined, tables

if TYPE_CHECKING:
    from pathlib import Path


def test_alike_tables_of_one_schema_are_no_pattern_by_chance(database: str) -> None:
    columns = "(id int PRIMARY KEY, body text, embedding vector(3))"
    run(database, *(f"CREATE TABLE {name}_notes {columns}" for name in ("post", "page")))
    assert tables(discovered(database)).keys() == {"public.page_notes", "public.post_notes"}


def test_a_pattern_never_means_a_table_of_another_layout(database: str, tmp_path: Path) -> None:
    columns = "(id int PRIMARY KEY, body text, embedding vector(3))"
    for schema in ("tenant_a", "tenant_b", "tenant_c"):
        run(database, f"CREATE SCHEMA {schema}", f"CREATE TABLE {schema}.docs {columns}")
    run(database, "ALTER TABLE tenant_c.docs ADD COLUMN source text")
    text = discovered(database)
    assert tables(text).keys() == {"tenant_*.docs", "tenant_c.docs"}
    names = [each.target.name for each in examined(database, text, tmp_path).tables]
    assert sorted(names) == ["tenant_a.docs", "tenant_b.docs", "tenant_c.docs"]
    run(database, "CREATE SCHEMA tenant_d", "CREATE TABLE tenant_d.docs (id int)")
    assert tables(discovered(database)).keys() == {
        "tenant_a.docs",
        "tenant_b.docs",
        "tenant_c.docs",
    }


@pytest.mark.parametrize(
    "columns",
    [
        "(id int PRIMARY KEY, a text, b text, embedding vector(3))",
        "(id int PRIMARY KEY, body text, embedding sparsevec(20000))",
    ],
)
def test_a_pattern_never_means_a_table_whose_entry_cannot_stand(
    database: str, tmp_path: Path, columns: str
) -> None:
    for number in (1, 2, 3):
        run(
            database,
            f"CREATE TABLE set_{number} (id int PRIMARY KEY, body text, embedding vector(3))",
        )
    run(database, f"CREATE TABLE set_other {columns}")
    text = discovered(database)
    assert tables(text).keys() == {"public.set_1", "public.set_2", "public.set_3"}
    assert '#name = "public.set_other"' in text
    assert says(examined(database, text, tmp_path), "schema") == []


def test_a_pattern_never_means_the_store_of_another_table(database: str, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        run(
            database,
            f"CREATE TABLE set_{number} (id int PRIMARY KEY, body text, embedding vector(3))",
        )
    run(
        database,
        "CREATE TABLE notes (id int PRIMARY KEY, body text)",
        """CREATE TABLE set_of_notes (
            id int PRIMARY KEY REFERENCES notes, embedding vector(3))""",
    )
    text = discovered(database)
    assert tables(text).keys() == {
        "public.notes",
        "public.set_1",
        "public.set_2",
        "public.set_3",
    }
    assert says(examined(database, text, tmp_path), "schema") == []


def test_a_store_in_each_schema_is_folded_with_its_table(database: str, tmp_path: Path) -> None:
    for schema in ("tenant_a", "tenant_b"):
        run(
            database,
            f"CREATE SCHEMA {schema}",
            f"CREATE TABLE {schema}.docs (id int PRIMARY KEY, body text)",
            f"""CREATE TABLE {schema}.doc_vectors (
                doc_id int PRIMARY KEY REFERENCES {schema}.docs, embedding vector(3))""",
            f"INSERT INTO {schema}.docs VALUES (1, 'x')",
        )
    text = discovered(database)
    (entry,) = tables(text).values()
    assert (entry["name"], entry["store"]["name"]) == ("tenant_*.docs", "tenant_*.doc_vectors")
    findings = examined(database, text, tmp_path).findings
    assert {(f.check, f.tenant, f.failing) for f in findings} == {
        ("completeness", "a", 1),
        ("completeness", "b", 1),
    }


@pytest.mark.parametrize(("indexed", "declared"), [(1, None), (2, "hnsw")])
def test_an_index_is_declared_for_a_pattern_that_most_of_its_tables_have(
    database: str, indexed: int, declared: str | None
) -> None:
    for number, name in enumerate(("ann", "bob", "eve")):
        own = f"tenant_{name}"
        run(
            database,
            f"CREATE SCHEMA {own}",
            f"CREATE TABLE {own}.docs (id int PRIMARY KEY, body text, embedding vector(3))",
            f"INSERT INTO {own}.docs SELECT n, 'x' || n, '[1,2,3]' FROM generate_series(1, 3) n",
        )
        if number < indexed:
            run(database, f"CREATE INDEX ON {own}.docs USING hnsw (embedding vector_cosine_ops)")
    assert tables(discovered(database))["tenant_*.docs"].get("index") == declared
