"""Which columns discovery takes for embeddings, their texts and their provenance."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.builders.tables import run
from tests.drivers.discoveries import discovered, examined, tables

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["emb", "vec", "doc_emb", "bodyVector", "EMBEDDING_V2"])
def test_the_usual_names_of_an_array_of_embeddings_are_known(database: str, name: str) -> None:
    run(
        database,
        f'CREATE TABLE docs (id int PRIMARY KEY, body text, remember real[], "{name}" real[])',
    )
    (entry,) = tables(discovered(database)).values()
    assert entry["embedding"].strip('"') == name


def test_arrays_count_as_embeddings_by_their_name_only(database: str) -> None:
    run(
        database,
        """CREATE TABLE docs (id int PRIMARY KEY, body text, prices real[],
            "bodyEmbedding" double precision[])""",
        "CREATE TABLE prices (id int PRIMARY KEY, body text, history real[])",
        "INSERT INTO docs VALUES (1, 'x', '{1}', '{1,2,3,4}'), (2, 'y', '{1}', '{1,2,3,4}')",
    )
    (entry,) = tables(discovered(database)).values()
    assert (entry["name"], entry["embedding"]) == ("public.docs", '"bodyEmbedding"')
    assert (entry["text"], entry["dimensions"]) == ("body", 4)


def test_each_embedding_column_has_an_entry_of_its_own(database: str, tmp_path: Path) -> None:
    run(
        database,
        """CREATE TABLE docs (id int PRIMARY KEY, title text, body text,
            title_embedding halfvec(2), embedding vector(3))""",
        "INSERT INTO docs VALUES (1, 'a title', 'a body', NULL, '[1,2,3]')",
    )
    text = discovered(database)
    declared = tables(text)
    assert declared["public.docs.title_embedding"]["text"] == "title"
    assert "body" in declared["public.docs.embedding"]["text"]
    found = examined(database, text, tmp_path)
    assert [finding.table for finding in found.findings] == ["public.docs.title_embedding"]


def test_a_title_with_an_embedding_of_its_own_is_not_put_before_another_named_text(
    database: str,
) -> None:
    run(
        database,
        """CREATE TABLE docs (id int PRIMARY KEY, title text, "pageContent" text,
            "titleEmbedding" vector(3), "contentEmbedding" vector(3))""",
        "INSERT INTO docs VALUES (1, 'a title', 'a page', '[1,2,3]', '[3,2,1]')",
    )
    declared = tables(discovered(database))
    assert [entry["text"] for entry in declared.values()] == ["title", '"pageContent"']


def test_a_text_that_the_table_puts_together_is_taken_before_its_parts(database: str) -> None:
    run(
        database,
        """CREATE TABLE docs (id int PRIMARY KEY, title text, body text,
            content text GENERATED ALWAYS AS (title || E'\\n' || body) STORED,
            embedding vector(3))""",
        "INSERT INTO docs VALUES (1, 'a title', 'a body', DEFAULT, '[1,2,3]')",
    )
    assert tables(discovered(database))["public.docs"]["text"] == "content"


def test_a_text_is_known_by_the_last_word_of_its_name(database: str) -> None:
    run(
        database,
        """CREATE TABLE pages (id int PRIMARY KEY, "pageHeading" text, "mainContent" text,
            "shortNote" text, embedding vector(3))""",
        "CREATE TABLE posts (id int PRIMARY KEY, post_body text, post_slug text, e vector(3))",
        # What another word or an exact name says comes first.
        "CREATE TABLE notes (id int PRIMARY KEY, error_message text, note text, e vector(3))",
        "CREATE TABLE items (id int PRIMARY KEY, item_title text, meta jsonb)",
        "CREATE TABLE item_embeddings (item_id int REFERENCES items, error_message text, e vector)",
        """INSERT INTO items VALUES (1, 't', '{"text": "x"}')""",
        "INSERT INTO item_embeddings VALUES (1, 'none', '[1,2,3]')",
    )
    found = {name: entry["text"] for name, entry in tables(discovered(database)).items()}
    assert found == {
        "public.pages": """concat_ws(E'\\n\\n', "pageHeading", "mainContent")""",
        "public.posts": "post_body",
        "public.notes": "note",
        "public.items": "meta ->> 'text'",
    }


def test_a_table_without_a_likely_text_is_left_to_a_person(database: str, tmp_path: Path) -> None:
    run(
        database,
        "CREATE TABLE vectors (id int PRIMARY KEY, a text, b text, embedding vector(3))",
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding vector(3))",
    )
    text = discovered(database)
    assert tables(text).keys() == {"public.docs"}
    assert '#name = "public.vectors"' in text
    filled = (
        "\n".join(
            line.removeprefix("#")
            if line.startswith("#[[") or " = " in line.split("  # ")[0]
            else line
            for line in text.partition('#name = "public.vectors"')[2].splitlines()
        )
        .replace('text = "content"', 'text = "a"')
        .replace('tenant = "tenant_id"', 'tenant = "b"')
    )
    head = '[[tables]]\nname = "public.vectors"'
    whole = head + filled.replace('index = "hnsw"', "")
    assert examined(database, whole, tmp_path).tables[0].target.scannable


def test_provenance_is_declared_where_a_sample_bears_it_out(database: str) -> None:
    table = """(id int PRIMARY KEY, body text, content_hash text, embedding_model text,
        updated_at timestamptz, embedding vector(3))"""
    run(
        database,
        f"CREATE TABLE hashed {table}",
        f"CREATE TABLE guessed {table}",
        "INSERT INTO hashed VALUES (1, 'x', md5('x'), 'voyage-3', now(), '[1,2,3]')",
        "INSERT INTO guessed VALUES (1, 'x', 'sha256:x', '', now(), '[1,2,3]')",
    )
    found = tables(discovered(database))
    hashed, guessed = found["public.hashed"], found["public.guessed"]
    assert hashed["content_hash"] == "content_hash"
    assert hashed["updated_at"] == "updated_at"
    assert (hashed["model_column"], hashed["model"]) == ("embedding_model", "voyage-3")
    assert guessed.keys().isdisjoint({"content_hash", "updated_at", "model_column", "model"})


@pytest.mark.parametrize("other", [None, "gte-small"])
def test_the_one_model_that_rows_name_is_taken_for_tables_that_name_none(
    database: str, other: str | None
) -> None:
    run(
        database,
        "CREATE TABLE notes (id int PRIMARY KEY, body text, model text, embedding vector(3))",
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding vector(3))",
        "CREATE TABLE pages (id int PRIMARY KEY, body text, model text, embedding vector(3))",
        "INSERT INTO notes VALUES (1, 'x', 'e5-mini', '[1,2,3]')",
        f"INSERT INTO pages VALUES (1, 'x', '{other or 'e5-mini'}', '[1,2,3]')",
    )
    text = discovered(database)
    provider = tomllib.loads(text)["provider"]
    assert provider.get("model") == ("e5-mini" if other is None else None)
    assert "model" not in tables(text)["public.docs"]


def test_a_column_that_is_always_empty_is_no_guess(database: str) -> None:
    run(
        database,
        """CREATE TABLE docs (id int PRIMARY KEY, tenant_id text, user_id text, content text,
            body text, embedding vector(3))""",
        "INSERT INTO docs VALUES (1, NULL, 'u', ' ', 'x', NULL)",
    )
    (entry,) = tables(discovered(database)).values()
    assert (entry["tenant"], entry["text"]) == ("user_id", "body")
