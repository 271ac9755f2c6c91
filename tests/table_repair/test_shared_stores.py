"""Stores whose rows belong to more than one thing: owners of several types, fields, models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.provider_server import vector_of
from tests.repairs import environment, repaired, settings
from tests.rollbacks import rolled_back, run_of, server
from tests.tables import examined, failing, rows, run, says, table

if TYPE_CHECKING:
    from tests.provider_server import ProviderServer

__all__ = ["server"]

STORE = {"name": "embeddings", "key": ["owner_id"]}
POSTS = {"owner_type": "'Post'", "field": "'body'"}


def literal(text: str) -> str:
    return "[" + ",".join(map(str, vector_of(text).tolist())) + "]"


@pytest.fixture
def shared(database: str) -> str:
    """Six posts and six comments of one store; post 1 has both fields, 2 its body, 9 is gone."""
    made = [("Post", 1, "title"), ("Post", 1, "body"), ("Post", 2, "body"), ("Post", 9, "body")]
    made += [("Comment", n, "body") for n in range(1, 7)]
    run(
        database,
        "CREATE TABLE posts (id integer PRIMARY KEY, tenant text, title text, body text)",
        "CREATE TABLE embeddings (owner_type varchar(20) NOT NULL, owner_id bigint NOT NULL,"
        " field text NOT NULL, dead boolean DEFAULT false, embedding vector(8),"
        " UNIQUE (owner_type, owner_id, field))",
        "INSERT INTO posts SELECT n, 'acme', 'title ' || n, 'body ' || n"
        " FROM generate_series(1, 6) AS n",
        *(
            f"INSERT INTO embeddings VALUES ('{kind}', {number}, '{field}', false,"
            f" '{literal(f'{field} {number}')}')"
            for kind, number, field in made
        ),
    )
    return database


def entry(text: str, **store: Any) -> dict[str, Any]:
    return {"name": "posts", "tenant": "tenant", "text": text, "store": {**STORE, **store}}


def others(url: str) -> list[tuple[Any, ...]]:
    """What no repair of the posts' bodies may touch, with the version of each row."""
    condition = "(owner_type, field) <> ('Post', 'body')"
    return rows(url, f"SELECT *, xmin, ctid FROM embeddings WHERE {condition} ORDER BY owner_id")


def test_rows_of_other_owners_and_fields_are_neither_counted_nor_touched(
    shared: str, tmp_path: Path, server: ProviderServer
) -> None:
    chosen = settings(server, tables=[entry("body", constants=POSTS)])
    before = others(shared)
    done = repaired(shared, chosen, tmp_path, keys=environment("acme"))
    assert [result.account.selected for result in done.results] == [4]
    assert done.after is not None
    (orphans,) = done.after.findings
    assert "1 of 7 rows of public.embeddings have no row in public.posts" in orphans.says
    assert others(shared) == before
    undone = rolled_back(shared, chosen, tmp_path, run_of(done))
    assert undone.counts() == {"selected": 4, "restored": 4}
    assert others(shared) == before
    assert rows(shared, "SELECT count(*) FROM embeddings WHERE field = 'body'") == [(9,)]


def test_each_field_is_an_entry_of_one_table(
    shared: str, tmp_path: Path, server: ProviderServer
) -> None:
    titles = entry(
        "title", where="owner_type = 'Post'", insert={"owner_type": "'Post'", "field": "'title'"}
    )
    chosen = settings(server, tables=[titles, entry("body", constants=POSTS)])
    done = repaired(shared, chosen, tmp_path, keys=environment("acme"))
    named = {result.table: result.account.selected for result in done.results}
    assert named == {
        "public.posts (in embeddings.embedding where owner_type = 'Post')": 5,
        "public.posts (in embeddings.embedding where owner_type = 'Post' and field = 'body')": 4,
    }
    assert rows(shared, "SELECT count(*) FROM embeddings WHERE owner_type = 'Post'") == [(13,)]


def test_two_entries_of_one_table_have_each_its_own_store(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    """Whose columns have the same names: only the entry tells where a vector goes."""
    run(
        database,
        "CREATE TABLE posts (id integer PRIMARY KEY, tenant text, title text, body text)",
        "INSERT INTO posts SELECT n, 'acme', 'title ' || n, 'body ' || n"
        " FROM generate_series(1, 5) AS n",
        *(
            statement
            for field in ("title", "body")
            for statement in (
                f"CREATE TABLE {field}s (post_id integer PRIMARY KEY, embedding vector(8))",
                *(
                    f"INSERT INTO {field}s VALUES ({n}, '{literal(f'{field} {n}')}')"
                    for n in range(2, 6)
                ),
            )
        ),
    )
    stores = [
        {"name": "posts", "tenant": "tenant", "text": field,
         "store": {"name": f"{field}s", "key": ["post_id"]}}
        for field in ("title", "body")
    ]  # fmt: skip
    done = repaired(database, settings(server, tables=stores), tmp_path, keys=environment("acme"))
    assert [result.account.selected for result in done.results] == [1, 1]
    for field in ("title", "body"):
        stored = rows(database, f"SELECT embedding::text FROM {field}s WHERE post_id = 1")
        np.testing.assert_allclose(json.loads(stored[0][0]), vector_of(f"{field} 1"), rtol=1e-6)


def test_a_vector_of_another_field_is_seen_by_a_check_of_one_s_own(shared: str) -> None:
    """As docs/stores.md has it: `uniqueness` looks within one entry."""
    run(
        shared,
        "UPDATE embeddings SET embedding = (SELECT embedding FROM embeddings WHERE owner_id = 1"
        " AND field = 'title') WHERE owner_type = 'Post' AND owner_id = 1",
    )
    documented = re.search(
        r"name = \"vector_of_another_field\"\nfailing_when = \"{3}(.*?)\"{3}",
        (Path(__file__).parents[2] / "docs" / "stores.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )
    assert documented is not None
    own = documented[1].replace("embeddable_", "owner_")
    check = {"name": "vector_of_another_field", "failing_when": own}
    entries = [
        table("posts", dimensions=8, store={**STORE, "constants": {**POSTS, "field": f"'{field}'"}},
              text=field, custom=[check])
        for field in ("title", "body")
    ]  # fmt: skip
    found = examined(shared, *entries)
    assert failing(found, "uniqueness") == {}
    told = [finding for finding in found.findings if finding.check == "vector_of_another_field"]
    assert [finding.failing for finding in told] == [1, 1]


def test_where_may_look_at_any_column_of_the_store(shared: str) -> None:
    run(shared, "UPDATE embeddings SET dead = true WHERE owner_type = 'Post' AND owner_id = 2")
    alive = table(
        "posts", dimensions=8, store={**STORE, "constants": POSTS, "where": "NOT store.dead"}
    )
    assert failing(examined(shared, alive), "completeness") == {None: 5}


@pytest.mark.parametrize("section", ["insert", "constants"])
def test_an_insert_that_completes_the_key_is_told_what_to_declare(
    shared: str, section: str
) -> None:
    said = says(examined(shared, table("posts", dimensions=8, store={**STORE, section: POSTS})),
                "schema")  # fmt: skip
    if section == "constants":
        assert said == []
    else:
        (words,) = said
        assert "owner_type, field completes a unique key" in words
        assert """constants = { owner_type = "'Post'", field = "'body'" }""" in words


def test_a_constant_names_no_column_and_contradicts_nothing(shared: str) -> None:
    store = {**STORE, "constants": {"owner_type": "title", "gone": "1"}}
    (missing, *_) = says(examined(shared, table("posts", dimensions=8, store=store)), "schema")
    assert "store.constants: column 'gone' does not exist" in missing
    store["constants"] = {"owner_type": "title", "field": "'body'"}
    (words,) = says(examined(shared, table("posts", dimensions=8, store=store)), "schema")
    assert 'store.constants.owner_type: column "title" does not exist' in words


def test_the_model_in_the_key_tells_the_rows_of_the_declared_model(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    run(
        database,
        "CREATE TABLE posts (id integer PRIMARY KEY, tenant text, body text)",
        "CREATE TABLE vectors (post_id integer, model text, embedding vector NOT NULL,"
        " PRIMARY KEY (post_id, model))",
        "INSERT INTO posts SELECT n, 'acme', 'body ' || n FROM generate_series(1, 6) AS n",
        "INSERT INTO vectors SELECT n, 'old', '[1,2,3]' FROM generate_series(1, 6) AS n",
        f"INSERT INTO vectors VALUES (1, 'text-embedding-3-small', '{literal('body 1')}')",
    )
    store = {"name": "vectors", "key": ["post_id"], "model_column": "model"}
    chosen = settings(
        server, tables=[{"name": "posts", "tenant": "tenant", "text": "body", "store": store}]
    )
    done = repaired(database, chosen, tmp_path, keys=environment("acme"))
    assert [result.account.selected for result in done.results] == [5]
    assert done.after is not None
    assert not done.after.findings
    assert rows(database, "SELECT model, count(*) FROM vectors GROUP BY 1 ORDER BY 1") == [
        ("old", 6),
        ("text-embedding-3-small", 6),
    ]
