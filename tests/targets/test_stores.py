"""Embeddings in a table of their own: what is missing there, what is stale, and what is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.settings.integrity_toml import load_settings
from checks.targets.siblings import MOST_SIBLINGS
from tests.builders.stores import DECLARED, INSIGHTS, STORE
from tests.builders.tables import examined, failing, looking, rows, run, says, table
from tests.drivers.canaries import drift
from tests.drivers.repairs import environment, repaired, settings
from tests.drivers.repairs import examined as examined_table
from tests.servers.provider_server import ProviderServer

KEYS = environment("acme", "globex")


def insights(url: str, store: str = STORE, *statements: str) -> None:
    """Five rows of two tenants: 1 and 4 whole, 2 and 5 without a row in the store, 3 NULL there."""
    run(
        url,
        INSIGHTS,
        store,
        "INSERT INTO insights (id, tenant, body)"
        " SELECT n, CASE WHEN n < 4 THEN 'acme' ELSE 'globex' END, 'text ' || n"
        " FROM generate_series(1, 5) AS n",
        "INSERT INTO insight_embeddings (insight_id, embedding)"
        " VALUES (1, '[1,0,0]'), (3, NULL), (4, '[0,1,0]')",
        *statements,
    )


def entry(**keys: Any) -> str:
    return table("insights", tenant="tenant", **{"store": DECLARED, **keys})


def test_a_missing_row_of_the_store_fails_as_a_null_embedding_there_does(database: str) -> None:
    insights(database)
    examination = examined(database, entry())
    assert failing(examination, "completeness") == {"acme": 2, "globex": 1}
    assert [m.rows for m in examination.tables[0].measurements] == [3, 2]


def test_rows_of_the_store_that_fail_a_check_are_counted_for_their_tenant(database: str) -> None:
    insights(
        database,
        STORE.replace("vector(3)", "vector"),
        "UPDATE insight_embeddings SET embedding = '[1,2]' WHERE insight_id = 4",
        "UPDATE insight_embeddings SET embedding = '[0,0,0]' WHERE insight_id = 1",
    )
    examination = examined(database, entry())
    assert failing(examination, "dimensionality") == {"globex": 1}
    assert failing(examination, "degenerate") == {"acme": 1}


def test_a_bare_name_is_the_tables_own_column_even_where_the_store_has_it_as_well(
    database: str,
) -> None:
    store = STORE.replace(
        "embedding vector(3)",
        "embedding vector(3), id integer DEFAULT 99, tenant text DEFAULT 'wrong',"
        " body text DEFAULT '', updated_at timestamptz DEFAULT now()",
    )
    insights(database, store)
    custom = [
        {"name": "own_kind", "failing_when": "kind = 'theirs' AND id < 3"},
        {"name": "qualified", "failing_when": "insights.kind = 'theirs' AND insights.id = 5"},
        {"name": "of_store", "failing_when": "store.kind = 'summary' AND kind <> store.kind"},
        {"name": "no_store_row", "failing_when": "store.insight_id IS NULL"},
    ]
    examination = examined(database, entry(custom=custom, where="id > 0", created_at="updated_at"))
    assert says(examination, "schema") == []
    assert failing(examination, "own_kind") == {"acme": 2}
    assert failing(examination, "qualified") == {"globex": 1}
    assert failing(examination, "of_store") == {"acme": 2, "globex": 1}
    assert failing(examination, "no_store_row") == {"acme": 1, "globex": 1}


def test_the_shown_statement_finds_the_rows_that_were_counted(database: str) -> None:
    store = STORE.replace("embedding vector(3)", "embedding vector(3), body text, tenant text")
    insights(database, store)
    found = {}
    for finding in examined(database, entry()).findings:
        assert finding.query is not None
        found[finding.tenant] = [row[0] for row in rows(database, finding.query)]
    assert found == {"acme": [2, 3], "globex": [5]}


def test_a_table_that_is_called_store_gives_the_name_up_to_its_store(database: str) -> None:
    insights(database, STORE, "ALTER TABLE insights RENAME TO store")
    custom = [{"name": "kinds", "failing_when": "store.kind = 'summary' AND kind = 'theirs'"}]
    examination = examined(database, table("store", tenant="tenant", store=DECLARED, custom=custom))
    assert failing(examination, "kinds") == {"acme": 2, "globex": 1}
    assert failing(examination, "completeness") == {"acme": 2, "globex": 1}


@pytest.mark.parametrize(
    ("store", "statement", "expected"),
    [
        ({"name": "elsewhere"}, "", "store.name: table elsewhere, declared beside public.insights"),
        ({"key": ["insight"]}, "", "store.key: column 'insight' does not exist in public.insight_"),
        ({"embedding": "vector"}, "", "store.embedding: column 'vector' does not exist in"),
        ({"model_column": "model"}, "", "store.model_column: column 'model' does not exist"),
        ({"content_hash": "embedding"}, "", "store.content_hash: column 'embedding' of public.ins"),
        ({"insert": {"sort": "'x'"}}, "", "store.insert: column 'sort' does not exist"),
        ({"insert": {"kind": "'x"}}, "", "public.insights: store.insert.kind: "),
        ({"insert": {"insight_id": "1"}}, "", "'insight_id' of public.insight_embeddings is decl"),
        ({"text": "bod"}, "", "public.insights: store.text: column"),
        ({"text": "kind || 'x'"}, "", "store.text: expected a column of public.insight_embeddings"),
        ({"embedding": "kind"}, "", "column 'kind' of public.insight_embeddings is of type text"),
        (
            {},
            "ALTER TABLE insight_embeddings ALTER embedding TYPE vector(4) USING NULL",
            "is vector(4), declared are 3 dimensions",
        ),
        (
            {},
            "ALTER TABLE insight_embeddings ALTER insight_id TYPE text",
            "store.key: (insight_id) of public.insight_embeddings cannot be matched with (id) of"
            " public.insights: operator does not exist: text pg_catalog.= integer",
        ),
        (
            {},
            "ALTER TABLE insights DROP CONSTRAINT insights_pkey",
            "store.key: public.insights has no primary key to match it with",
        ),
        (
            {"key": ["insight_id", "kind"]},
            "",
            "(insight_id, kind) of public.insight_embeddings cannot be matched with (id) of",
        ),
    ],
)
def test_what_is_wrong_with_a_store_is_told_with_its_setting(
    database: str, store: dict[str, Any], statement: str, expected: str
) -> None:
    insights(database, STORE, *([statement] if statement else []))
    (problem,) = says(examined(database, entry(store={**DECLARED, **store})), "schema")
    assert expected in problem


def test_a_store_is_found_in_the_schema_of_its_table_by_the_same_pattern(database: str) -> None:
    for tenant, embedding in (("acme", "'[1,2,3]'"), ("globex", "NULL")):
        run(
            database,
            f"CREATE SCHEMA tenant_{tenant}",
            f"CREATE TABLE tenant_{tenant}.docs (id integer PRIMARY KEY, body text)",
            f"CREATE TABLE tenant_{tenant}.embeddings (id integer UNIQUE, embedding vector(3))",
            f"INSERT INTO tenant_{tenant}.docs VALUES (1, 'text')",
            f"INSERT INTO tenant_{tenant}.embeddings VALUES (1, {embedding})",
        )
    run(
        database,
        "CREATE SCHEMA tenant_new",
        "CREATE TABLE tenant_new.docs (id integer PRIMARY KEY, body text)",
    )
    store = {"name": "tenant_*.embeddings", "key": ["id"]}
    examination = examined(database, table("tenant_*.docs", tenant_from="schema", store=store))
    assert failing(examination, "completeness") == {"globex": 1}
    (problem,) = says(examination, "schema")
    assert "table tenant_new.embeddings, declared beside tenant_new.docs, does not" in problem


def test_drift_asks_for_no_text_that_nobody_knows(database: str) -> None:
    insights(database, STORE.replace(" PRIMARY KEY", "").replace("vector(3)", "vector"))
    declared = {"name": "insights", "tenant": "tenant", "text": "body", "store": DECLARED}
    with ProviderServer() as server:
        chosen = settings(server, tables=[declared], provider={"dimensions": 3})
        looked = drift(database, chosen, keys=KEYS)
        assert server.requests == []
    assert "holds pieces of texts" in looked.says("acme")
    assert set(looked.held().values()) == {True}


@pytest.mark.parametrize(
    ("store", "columns", "reason"),
    [
        (STORE, {}, None),
        (STORE.replace(" DEFAULT 'summary'", ""), {}, "a new row of public.insight_embeddings nee"),
        (STORE.replace(" DEFAULT 'summary'", ""), {"insert": {"kind": "'x'"}}, None),
        (STORE.replace(" PRIMARY KEY", ""), {}, "may hold several rows of one key"),
        (STORE.replace(" PRIMARY KEY", " UNIQUE"), {}, None),
    ],
)
def test_a_store_says_why_it_cannot_be_repaired(
    database: str, store: str, columns: dict[str, Any], reason: str | None
) -> None:
    run(database, INSIGHTS, store)
    examination = examined(database, entry(store={**DECLARED, **columns}))
    unrepairable = examination.tables[0].target.unrepairable
    if reason is None:
        assert unrepairable is None
    else:
        assert unrepairable is not None
        assert reason in unrepairable


def test_provenance_beside_the_text_is_checked_and_not_repaired(database: str) -> None:
    insights(database, STORE, "ALTER TABLE insights ADD model text")
    examination = examined(database, entry(model_column="model"))
    assert failing(examination, "provenance") == {"acme": 1, "globex": 1}
    unrepairable = examination.tables[0].target.unrepairable
    assert unrepairable is not None
    assert "model_column of public.insights would not be written" in unrepairable


def test_a_store_with_several_rows_of_a_key_is_reported_row_by_row(
    database: str, tmp_path: Path
) -> None:
    run(
        database,
        INSIGHTS,
        "CREATE TABLE chunks (id serial PRIMARY KEY, insight_id integer, chunk text, hash text,"
        " embedding vector(8))",
        "INSERT INTO insights (id, tenant, body) VALUES (1, 'acme', 'a b'), (2, 'acme', 'c d'),"
        " (3, 'acme', 'e f')",
        "INSERT INTO chunks (insight_id, chunk, hash, embedding) VALUES"
        " (1, 'a', md5('a'), '[1,0,0,0,0,0,0,0]'), (1, 'b', md5('was b'), '[0,1,0,0,0,0,0,0]'),"
        " (2, 'c', md5('c'), NULL), (2, 'd', md5('d'), '[0,0,1,0,0,0,0,0]')",
    )
    store = {"name": "chunks", "key": ["insight_id"], "text": "chunk", "content_hash": "hash"}
    declared = {"name": "insights", "tenant": "tenant", "text": "body", "store": store}
    with ProviderServer() as server:
        config = settings(server, tables=[declared])
        examination = examined_table(database, config, "insights")
        assert {(f.check, f.failing, f.rows) for f in examination.findings} == {
            ("completeness", 2, 5),
            ("freshness", 1, 5),
        }
        assert all(
            "only reported: public.chunks may hold several rows of one key" in finding.says
            for finding in examination.findings
        )
        stale = next(f for f in examination.findings if f.check == "freshness")
        assert stale.query is not None
        assert rows(database, stale.query) == [(1, "acme", "b")]
        assert repaired(database, config, tmp_path, keys=KEYS).results == ()
        assert server.requests == []


def test_the_settings_of_the_document_load(tmp_path: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "stores.md").read_text(encoding="utf-8")
    file = tmp_path / "integrity.toml"
    blocks = [part.partition("```")[0] for part in document.split("```toml")[1:]]
    file.write_text("\n".join(blocks), encoding="utf-8")
    *stores, source = load_settings(file, row_checks=ROW_CHECK_NAMES).tables
    assert None not in [table.store for table in stores]
    assert source.source is not None


def test_the_tables_of_many_schemas_with_one_store_are_not_held_against_each_other(
    database: str,
) -> None:
    """Each would read the vectors of all."""
    run(database, "CREATE TABLE one_store (id text PRIMARY KEY, embedding vector(3))")
    declared = {"name": "public.one_store", "key": ["id"]}
    for schemas, siblings in ((MOST_SIBLINGS, MOST_SIBLINGS - 1), (MOST_SIBLINGS + 1, 0)):
        run(
            database,
            *(
                f"CREATE SCHEMA IF NOT EXISTS t{n};"
                f"CREATE TABLE IF NOT EXISTS t{n}.docs (id text PRIMARY KEY, body text)"
                for n in range(schemas)
            ),
        )
        with looking(database, table("t*.docs", store=declared)) as looker:
            assert {len(target.siblings) for target in looker.targets()} == {siblings}
