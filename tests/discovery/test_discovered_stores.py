"""Stores as frameworks make them: what discovery prints of them is right as it stands."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from tests.builders.tables import failing, rows, run, says
from tests.drivers.discoveries import discovered, examined, tables

if TYPE_CHECKING:
    from pathlib import Path


def test_a_store_with_one_row_to_a_key_has_what_tells_of_its_vectors(
    database: str, tmp_path: Path
) -> None:
    run(
        database,
        "CREATE TABLE articles (id int PRIMARY KEY, body text, updated_at timestamptz)",
        """CREATE TABLE article_embeddings (article_id int PRIMARY KEY REFERENCES articles,
            embedding vector(3), model_name text, updated_at timestamptz, origin text NOT NULL)""",
        "INSERT INTO articles SELECT i, 'body ' || i, now() FROM generate_series(1, 4) AS i",
        """INSERT INTO article_embeddings SELECT i, ARRAY[i,2,3]::vector, 'a-model',
            now() + CASE i WHEN 1 THEN interval '-1 h' ELSE '1 h' END, 'x'
            FROM generate_series(1, 3) AS i""",
    )
    text = discovered(database)
    (entry,) = tables(text).values()
    assert (entry["model"], entry["updated_at"]) == ("a-model", "updated_at")
    assert entry["store"]["model_column"] == "model_name"
    assert entry["store"]["embedded_at"] == "updated_at"
    assert '#insert = { origin = "..." }' in text
    found = examined(database, text, tmp_path)
    assert failing(found, "freshness") == failing(found, "completeness") == {None: 1}


def test_the_model_in_the_key_of_a_store_is_told(database: str, tmp_path: Path) -> None:
    run(
        database,
        "CREATE TABLE records (id int PRIMARY KEY, body text)",
        """CREATE TABLE record_embeddings (record_id int REFERENCES records, model text,
            embedding vector, PRIMARY KEY (record_id, model))""",
        "INSERT INTO records SELECT i, 'body ' || i FROM generate_series(1, 4) AS i",
        "INSERT INTO record_embeddings SELECT i, 'new', ARRAY[i,2,3]::vector"
        " FROM generate_series(1, 3) AS i",
        "INSERT INTO record_embeddings VALUES (1, 'old', '[1,2]'), (4, 'old', '[1,3]')",
    )
    text = discovered(database)
    (entry,) = tables(text).values()
    assert (entry["model"], entry["dimensions"]) == ("new", 3)
    found = examined(database, text, tmp_path)
    assert {table.target.unrepairable for table in found.tables} == {None}
    assert failing(found, "completeness") == {None: 1}


@pytest.mark.parametrize("kind", ["varchar", "owner"])
def test_owners_of_several_types_and_their_fields_have_an_entry_each(
    database: str, tmp_path: Path, kind: str
) -> None:
    run(
        database,
        "CREATE TABLE posts (id bigint PRIMARY KEY, account_id int, title text, body text)",
        "CREATE TABLE replies (id bigint PRIMARY KEY, body text)",
        "CREATE TYPE owner AS ENUM ('Post', 'Forum::Reply')",
        f"""CREATE TABLE embeddings (id bigserial PRIMARY KEY, embeddable_type {kind} NOT NULL,
            embeddable_id bigint NOT NULL, field text NOT NULL, embedding vector(3),
            "updatedAt" timestamp(3) NOT NULL,
            UNIQUE (embeddable_type, embeddable_id, field))""",
        "INSERT INTO posts SELECT i, 1, 't' || i, 'b' || i FROM generate_series(1, 4) AS i",
        "INSERT INTO replies SELECT i, 'r' || i FROM generate_series(1, 3) AS i",
        f"""INSERT INTO embeddings
            (embeddable_type, embeddable_id, field, embedding, "updatedAt")
            SELECT 'Post'::{kind}, i, 'title', ARRAY[i,1,3]::vector, now()
            FROM generate_series(1, 4) AS i
            UNION ALL
            SELECT 'Post', i, 'body', ARRAY[i,2,3]::vector, now() FROM generate_series(1, 3) AS i
            UNION ALL SELECT 'Forum::Reply', i, 'body', ARRAY[i,3,3]::vector, now()
            FROM generate_series(1, 2) AS i""",
    )
    text = discovered(database)
    entries = tomllib.loads(text)["tables"]
    assert sorted((e["name"], e["text"], e["store"]["constants"]["field"]) for e in entries) == [
        ("public.posts", "body", "'body'"),
        ("public.posts", "title", "'title'"),
        ("public.replies", "body", "'body'"),
    ]
    assert all(e["store"]["insert"] == {'"updatedAt"': "now()"} for e in entries)
    found = examined(database, text, tmp_path)
    assert {table.target.unrepairable for table in found.tables} == {None}
    assert failing(found, "completeness") == {"1": 1, None: 1}
    assert says(found, "orphans") == says(found, "schema") == []


def test_the_memories_of_a_graph_are_embedded_as_their_store_writes_them(
    database: str, tmp_path: Path
) -> None:
    run(
        database,
        """CREATE TABLE store (prefix text NOT NULL, key text NOT NULL, value jsonb NOT NULL,
            created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now(),
            PRIMARY KEY (prefix, key))""",
        """CREATE TABLE store_vectors (prefix text NOT NULL, key text NOT NULL,
            field_name text NOT NULL, embedding vector(3), created_at timestamptz DEFAULT now(),
            updated_at timestamptz DEFAULT now(), PRIMARY KEY (prefix, key, field_name),
            FOREIGN KEY (prefix, key) REFERENCES store(prefix, key) ON DELETE CASCADE)""",
    )
    values: list[dict[str, Any]] = [
        {"text": f'say "ж{i}"\n', "b": [1, None], "aa": 1.5, "z": True} for i in range(4)
    ]
    for i, value in enumerate(values):
        written = json.dumps(value).replace("'", "''")
        run(
            database,
            f"INSERT INTO store VALUES ('users.{i % 2}', 'k{i}', '{written}')",
            *(
                f"INSERT INTO store_vectors VALUES ('users.{i % 2}', 'k{i}', '{field}',"
                f" '[{i},2,3]')"
                for field in (("$", "text") if i else ("$",))
            ),
        )
    text = discovered(database)
    entries = {e["store"]["constants"]["field_name"]: e for e in tomllib.loads(text)["tables"]}
    assert entries["'text'"]["text"] == "value ->> 'text'"
    assert entries["'$'"]["tenant"] == "prefix"
    expression = entries["'$'"]["text"]
    whole = rows(database, f"SELECT {expression} FROM store ORDER BY key")
    assert [row[0] for row in whole] == [
        json.dumps(value, sort_keys=True, ensure_ascii=False) for value in values
    ]
    found = examined(database, text, tmp_path)
    assert {table.target.unrepairable for table in found.tables} == {None}
    assert failing(found, "completeness") == {"users.0": 1}


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("meta.title", "value #>> '{meta,title}'"),
        ("meta.tags[1]", "value #>> '{meta,tags,1}'"),
        ("meta.tags[*]", None),
    ],
)
def test_a_path_within_a_memory_is_followed_or_left_to_a_person(
    database: str, field: str, text: str | None
) -> None:
    run(
        database,
        "CREATE TABLE store (prefix text, key text, value jsonb NOT NULL,"
        " PRIMARY KEY (prefix, key))",
        "CREATE TABLE store_vectors (prefix text, key text, field_name text, embedding vector(3),"
        " PRIMARY KEY (prefix, key, field_name), FOREIGN KEY (prefix, key) REFERENCES store)",
        "INSERT INTO store SELECT 'users', i, jsonb_build_object('text', 'text ' || i, 'meta',"
        " jsonb_build_object('title', 'title ' || i, 'tags', ARRAY['a' || i, 'b' || i]))"
        " FROM generate_series(1, 4) AS i",
        f"INSERT INTO store_vectors SELECT prefix, key, '{field}', ARRAY[1, 2, key::int]::vector"
        " FROM store",
    )
    printed = discovered(database)
    found = [entry["text"] for entry in tomllib.loads(printed).get("tables", [])]
    assert found == [text] * bool(text)
    assert ("what field_name names is no column or key of store" in printed) is not bool(text)


def test_a_store_without_a_foreign_key_is_proposed(database: str) -> None:
    run(
        database,
        "CREATE TABLE articles (id int PRIMARY KEY, body text)",
        "CREATE TABLE article_vectors (article_id int PRIMARY KEY, embedding vector(3))",
        "INSERT INTO articles SELECT i, 'body ' || i FROM generate_series(1, 4) AS i",
        "INSERT INTO article_vectors SELECT i, ARRAY[i,2,3]::vector"
        " FROM generate_series(1, 3) AS i",
    )
    text = discovered(database)
    assert tables(text) == {}
    assert '#name = "public.articles"' in text
    assert '#[tables.store]\n#name = "public.article_vectors"' in text
    assert '#key = ["article_id"]  # by its name: no foreign key says so' in text


def test_the_parent_of_pieces_is_proposed_as_their_source(database: str) -> None:
    run(
        database,
        "CREATE TABLE users (id int PRIMARY KEY, name text)",
        "CREATE TABLE files (id int PRIMARY KEY, raw_text text)",
        """CREATE TABLE entries (id int PRIMARY KEY, user_id int REFERENCES users,
            file_id int REFERENCES files, heading text, compiled text, embeddings vector(3))""",
        "INSERT INTO files VALUES (1, 'a and b')",
        "INSERT INTO entries VALUES (1, NULL, 1, 'h', 'h: a', '[1,2,3]')",
    )
    # Its only text is weak, and still no reason to take it for a store of its team's.
    run(
        database,
        "CREATE TABLE groups (id int PRIMARY KEY, description text)",
        """CREATE TABLE talks (id int PRIMARY KEY, group_id int REFERENCES groups, said text,
            embedding vector(3))""",
        "INSERT INTO groups VALUES (1, 'people')",
        "INSERT INTO talks VALUES (1, 1, 'hello', '[1,2,3]')",
    )
    text = discovered(database)
    entry = tables(text)["public.entries"]
    assert tables(text)["public.talks"]["text"] == "said"
    assert entry["text"] == "compiled"
    assert "source" not in entry
    assert '#[tables.source]\n#name = "public.files"' in text
    assert '#source_key = ["file_id"]' in text


def test_tables_that_look_as_if_they_held_keys_are_proposed_and_not_read(database: str) -> None:
    run(
        database,
        "CREATE TABLE docs (id int PRIMARY KEY, tenant_id int, body text, embedding vector(3))",
        'CREATE TABLE tenant_settings (tenant_id int PRIMARY KEY, "openaiApiKey" text)',
        "CREATE TABLE organizations (id text PRIMARY KEY, llm_key_encrypted bytea)",
        "CREATE TABLE api_keys (id int PRIMARY KEY, user_id int, api_key_hash text)",
        "INSERT INTO tenant_settings VALUES (1, 'sk-secret')",
    )
    text = discovered(database)
    assert "sk-secret" not in text
    assert (
        """#sql = 'SELECT "openaiApiKey" FROM public.tenant_settings"""
        " WHERE tenant_id::text = %(tenant)s'"
    ) in text
    assert '#sql = "SELECT llm_key_encrypted FROM public.organizations WHERE id = ' in text
    assert "deciphers it" in text
    assert "api_keys" not in text
    assert tomllib.loads(text)["tables"]


def test_a_generic_foreign_key_of_django_leads_to_the_tables_of_its_types(
    database: str, tmp_path: Path
) -> None:
    run(
        database,
        "CREATE TABLE django_content_type (id int PRIMARY KEY, app_label varchar, model varchar)",
        "CREATE TABLE blog_post (id bigint PRIMARY KEY, author_id int, body text)",
        """CREATE TABLE search_embedding (id bigserial PRIMARY KEY, object_id bigint NOT NULL,
            content_type_id int NOT NULL REFERENCES django_content_type, embedding vector(3),
            UNIQUE (content_type_id, object_id))""",
        "INSERT INTO django_content_type VALUES (7, 'blog', 'post'), (8, 'auth', 'user')",
        "INSERT INTO blog_post SELECT i, 1, 'body ' || i FROM generate_series(1, 4) AS i",
        "INSERT INTO search_embedding (object_id, content_type_id, embedding)"
        " SELECT i, 7, ARRAY[i,2,3]::vector FROM generate_series(1, 3) AS i",
    )
    text = discovered(database)
    (entry,) = tables(text).values()
    assert (entry["name"], entry["store"]["key"]) == ("public.blog_post", ["object_id"])
    assert entry["store"]["constants"] == {"content_type_id": "'7'"}
    assert failing(examined(database, text, tmp_path), "completeness") == {None: 1}


def test_parents_that_never_have_an_embedding_are_asked_about(database: str) -> None:
    run(
        database,
        """CREATE TABLE chunks (id int PRIMARY KEY, parent_id int REFERENCES chunks, content text,
            embedding vector(3))""",
        "INSERT INTO chunks SELECT i, NULL, 'whole ' || i, NULL FROM generate_series(1, 3) AS i",
        "INSERT INTO chunks SELECT i, i % 3 + 1, 'part ' || i, CASE WHEN i % 5 > 0 THEN"
        " ARRAY[i,2,3]::vector END FROM generate_series(4, 20) AS i",
    )
    text = discovered(database)
    assert '#where = "parent_id IS NOT NULL"  # no row where parent_id IS NULL has an' in text
    assert "where" not in next(iter(tables(text).values()))


def test_models_by_number_have_an_entry_each_and_are_proposed_without_a_foreign_key(
    database: str, tmp_path: Path
) -> None:
    run(
        database,
        "CREATE TABLE posts (id bigint PRIMARY KEY, user_id int, raw text)",
        """CREATE TABLE ai_posts_embeddings (post_id bigint NOT NULL, model_id bigint NOT NULL,
            strategy_id int NOT NULL, embeddings halfvec NOT NULL,
            PRIMARY KEY (model_id, strategy_id, post_id))""",
        "INSERT INTO posts SELECT i, 1, 'post ' || i FROM generate_series(1, 5) AS i",
        "INSERT INTO ai_posts_embeddings SELECT i, 3, 1, ARRAY[i,2,3]::vector::halfvec"
        " FROM generate_series(1, 4) AS i",
        "INSERT INTO ai_posts_embeddings SELECT i, -1, 1, ARRAY[i,2]::vector::halfvec"
        " FROM generate_series(1, 3) AS i",
    )
    text = discovered(database)
    assert tables(text) == {}
    proposed = "\n".join(
        line.removeprefix("#") for line in text.splitlines() if not line.startswith("# ")
    ).replace('model = "text-embedding-3-small"', "")
    path = tmp_path / "proposed.toml"
    path.write_text(proposed)
    entries = tomllib.loads(proposed)["tables"]
    assert [(e["dimensions"], e["store"]["constants"]["model_id"]) for e in entries] == [
        (3, "'3'"),
        (2, "'-1'"),
    ]
    assert entries[0]["text"] == "raw"


def test_owners_of_several_types_in_each_schema_are_proposed_behind_a_mark(
    database: str, tmp_path: Path
) -> None:
    """Only one schema is sampled: another may know more types."""
    for tenant in ("ann", "bob"):
        run(
            database,
            f"CREATE SCHEMA t_{tenant}",
            f"CREATE TABLE t_{tenant}.notes (id integer PRIMARY KEY, body text)",
            f"CREATE TABLE t_{tenant}.embeddings (owner_type text, owner_id integer,"
            " embedding vector(3) NOT NULL, PRIMARY KEY (owner_type, owner_id))",
            f"INSERT INTO t_{tenant}.notes SELECT n, 'note ' || n FROM generate_series(1, 4) AS n",
            f"INSERT INTO t_{tenant}.embeddings"
            " SELECT 'Note', n, ARRAY[1, 2, n]::vector FROM generate_series(1, 3) AS n",
        )
    printed = discovered(database)
    assert tables(printed) == {}
    assert "# the values of owner_type were looked at in t_" in printed
    unmarked = re.sub(r"^#(?=\[|\w+ =)", "", printed, flags=re.MULTILINE)
    (entry,) = tables(unmarked).values()
    assert (entry["name"], entry["text"]) == ("t_*.notes", "body")
    assert entry["store"]["constants"] == {"owner_type": "'Note'"}
    found = examined(database, unmarked, tmp_path)
    assert failing(found, "completeness") == {"ann": 1, "bob": 1}
