"""Stores whose rows belong to more than one thing: owners of several types, fields, models."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from checks.database.connection_url import parse_url
from checks.examination.examination import examine
from checks.examination.selection import Selection
from checks.scanning.sample import Sample
from tests.builders.tables import examined, failing, rows, run, says, table
from tests.drivers.repairs import environment, opened, repaired, settings
from tests.drivers.rollbacks import rolled_back, run_of, server
from tests.servers.provider_server import vector_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.provider_server import ProviderServer

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


COMMENTS = {"owner_type": "'Comment'", "field": "'body'"}
TITLES = {**POSTS, "field": "'title'"}


@pytest.mark.parametrize(
    ("table", "text", "constants", "copied", "fail"),
    [
        ("posts", "title", TITLES, "owner_type = 'Post' AND owner_id = 1", 1),
        # With the comment that has the very text.
        ("comments", "body", COMMENTS, "owner_type = 'Comment' AND owner_id = 6", 2),
    ],
    ids=["another field", "another table"],
)
def test_a_vector_of_another_entry_fails_in_both_and_each_gets_its_own(
    shared: str,
    tmp_path: Path,
    server: ProviderServer,
    table: str,
    text: str,
    constants: dict[str, str],
    copied: str,
    fail: int,
) -> None:
    run(
        shared,
        "CREATE TABLE comments (id integer PRIMARY KEY, tenant text, body text)",
        "INSERT INTO comments SELECT id, tenant, body FROM posts",
        f"UPDATE embeddings SET embedding = '{literal('body 1')}' WHERE {copied}",
    )
    other = {**entry(text, constants=constants), "name": table}
    chosen = settings(server, tables=[entry("body", constants=POSTS), other])
    place = parse_url(shared, variable="DATABASE_URL")
    # The second is held against the first also where it is looked at alone.
    (alone,) = examine(place, chosen, Selection(tables=[chosen.named_tables[1][0]])).tables
    (finding,) = alone.findings_of("uniqueness")
    assert finding.failing == len(rows(shared, str(finding.query).removesuffix(";"))) == fail
    first = examine(place, chosen, Selection())
    assert [table.failing("uniqueness") for table in first.tables] == [1, fail]
    before = rows(shared, f"SELECT *, ctid FROM embeddings WHERE NOT ({copied}) AND owner_id > 1")
    done = repaired(shared, chosen, tmp_path, keys=environment("acme"))
    assert done.after is not None
    assert [table.failing("uniqueness") for table in done.after.tables] == [0, 0]
    for kind, number, field, stored in rows(
        shared, "SELECT owner_type, owner_id, field, embedding::text FROM embeddings"
    ):
        wanted = vector_of(f"{field} {number}")
        np.testing.assert_allclose(json.loads(stored), wanted, rtol=1e-6, err_msg=kind)
    assert set(before) <= set(rows(shared, "SELECT *, ctid FROM embeddings"))


def test_a_sibling_s_repair_mends_what_failed_with_it(
    shared: str, tmp_path: Path, server: ProviderServer
) -> None:
    """A repair of the titles alone, after which the bodies hold what is theirs."""
    run(
        shared,
        f"UPDATE embeddings SET embedding = '{literal('body 1')}'"
        " WHERE field = 'title' AND owner_id = 1",
    )
    bodies = {**entry("body", constants=POSTS), "checks": {"uniqueness": {"severity": "warning"}}}
    titles = entry("title", constants=TITLES)
    chosen = settings(server, tables=[bodies, titles], repair={"probe": 0})
    with opened(shared, chosen, keys=environment("acme")) as repair:
        plan = repair.plan()
        only = replace(plan, tables=plan.tables[1:])
        repair.run(only, tmp_path, lambda _: None)
        assert [table.failing("uniqueness") for table in repair.remeasure().tables] == [0, 0]


def test_one_row_of_two_entries_is_nobody_s_twin_but_two_rows_are(database: str) -> None:
    """A store that nothing tells apart, whose row is taken for both tables' of one key."""
    run(
        database,
        "CREATE TABLE store (id integer PRIMARY KEY, embedding vector(3))",
        "INSERT INTO store SELECT n, ARRAY[1, n, n * n]::vector FROM generate_series(1, 5) AS n",
        *(
            statement
            for name, first in (("docs", 1), ("notes", 3))
            for statement in (
                f"CREATE TABLE {name} (id integer PRIMARY KEY, body text)",
                f"INSERT INTO {name} SELECT n, '{name} ' || n"
                f" FROM generate_series({first}, {first + 2}) AS n",
            )
        ),
    )
    entries = [table(name, store={"name": "store", "key": ["id"]}) for name in ("docs", "notes")]
    assert failing(examined(database, *entries), "uniqueness") == {}
    run(database, "UPDATE store SET embedding = (SELECT embedding FROM store WHERE id = 1)"
                  " WHERE id = 5")  # fmt: skip
    found = examined(database, *entries)
    assert [one.failing("uniqueness") for one in found.tables] == [1, 1]
    most = Sample(percent=Decimal("99.99"), seed=1)
    sampled = examined(database, *entries, sample=most)
    assert [one.failing("uniqueness") for one in sampled.tables] == [1, 1]
    # Of a table that is asked nothing, nothing is told to another.
    entries[1] += "[tables.checks]\nuniqueness = { enabled = false }\n"
    assert failing(examined(database, *entries), "uniqueness") == {}


def test_a_sibling_s_row_that_raises_an_error_hides_nothing_of_this_one(database: str) -> None:
    run(
        database,
        "CREATE TABLE docs (id integer PRIMARY KEY, body text, meta json)",
        "CREATE TABLE store (id integer, field text, embedding vector(3), PRIMARY KEY (id, field))",
        "INSERT INTO docs SELECT n, 'body ' || n, json_build_object('title', n)"
        " FROM generate_series(1, 4) AS n",
        "INSERT INTO store SELECT n, field, '[1,2,3]' FROM generate_series(1, 4) AS n,"
        " unnest(ARRAY['title', 'body']) AS field WHERE n = 1",
        """UPDATE docs SET meta = '{"title": "\\u0000"}' WHERE id = 4""",
    )
    entries = [
        table(text=text, store={"name": "store", "key": ["id"],
                                "constants": {"field": f"'{field}'"}})
        for field, text in (("title", "meta ->> 'title'"), ("body", "body"))
    ]  # fmt: skip
    found = examined(database, *entries)
    assert [(one.measured, one.failing("uniqueness")) for one in found.tables] == [(True, 1)] * 2
    assert [len(one.findings_of("schema")) for one in found.tables] == [1, 0]


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
