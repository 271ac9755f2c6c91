"""What discovery guesses of tables that a framework made, where people use it in several ways."""

from __future__ import annotations

import pytest

from tests.builders.tables import run
from tests.drivers.discoveries import discovered, tables

COLLECTIONS = (
    "CREATE TABLE langchain_pg_collection (uuid uuid PRIMARY KEY, name varchar, cmetadata json)",
    "CREATE TABLE langchain_pg_embedding (id varchar PRIMARY KEY, collection_id uuid,"
    " embedding vector(3), document varchar, cmetadata jsonb)",
    "INSERT INTO langchain_pg_collection SELECT md5(i::text)::uuid, 'c' || i"
    " FROM generate_series(1, 2) AS i",
)
BY_COLLECTION = "(SELECT name FROM public.langchain_pg_collection WHERE uuid = collection_id)"


@pytest.mark.parametrize(
    ("collection", "metadata", "tenant"),
    [
        ("1", "jsonb_build_object('org_id', i % 3)", "cmetadata ->> 'org_id'"),
        ("1 + i % 2", "jsonb_build_object('org_id', i % 3)", BY_COLLECTION),
        ("1", "jsonb_build_object('org_id', 7)", BY_COLLECTION),
        ("1", "jsonb_build_object('org_id', nullif(i % 3, 0))", BY_COLLECTION),
    ],
    ids=["several in one collection", "several collections", "one alone", "not of all rows"],
)
def test_one_collection_of_several_tenants_is_told_apart_by_its_metadata(
    database: str, collection: str, metadata: str, tenant: str
) -> None:
    run(
        database,
        *COLLECTIONS,
        f"INSERT INTO langchain_pg_embedding SELECT i, md5(({collection})::text)::uuid,"
        f" ARRAY[i, 2, 3]::vector, 'text ' || i, {metadata} FROM generate_series(1, 6) AS i",
    )
    assert tables(discovered(database))["public.langchain_pg_embedding"]["tenant"] == tenant


@pytest.mark.parametrize("mark", ["langchain_id uuid", "langchain_metadata json"])
def test_a_title_among_the_metadata_of_langchain_is_not_embedded(database: str, mark: str) -> None:
    run(
        database,
        f"CREATE TABLE kb (id int PRIMARY KEY, {mark}, page_content text NOT NULL,"
        " embedding vector(3) NOT NULL, title text)",
        "INSERT INTO kb (id, page_content, embedding, title)"
        " SELECT i, 'text ' || i, ARRAY[i, 2, 3]::vector, 't' FROM generate_series(1, 4) AS i",
    )
    assert tables(discovered(database))["public.kb"]["text"] == "page_content"
