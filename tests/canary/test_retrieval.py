"""Retrieval: real hnsw and ivfflat indexes, whole, mistuned and broken, and what is said."""

from __future__ import annotations

import pytest

from checks.canary.retrieval import searchable
from tests.builders.items import DIMENSIONS, HNSW, IVFFLAT, always, chosen, fill
from tests.builders.tables import run
from tests.drivers.canaries import retrieval, sampling


@pytest.mark.parametrize("index", [HNSW, IVFFLAT])
def test_a_well_tuned_index_holds(database: str, index: str) -> None:
    fill(database, indexes=[index])
    always(database, "hnsw.ef_search = 200", "ivfflat.probes = 60")
    looked = retrieval(database, chosen())
    assert looked.held() == {None: True}
    assert looked.verdict(None).rows == 5


@pytest.mark.parametrize(
    ("index", "setting", "told"),
    [
        (HNSW, "hnsw.ef_search = 1", "items_embedding, hnsw.ef_search = 1"),
        (IVFFLAT, "ivfflat.probes = 1", "items_embedding, ivfflat.probes = 1"),
    ],
)
def test_a_mistuned_index_fails_and_says_its_recall(
    database: str, index: str, setting: str, told: str
) -> None:
    fill(database, indexes=[index])
    always(database, setting)
    looked = retrieval(database, chosen())
    assert looked.held() == {None: False}
    assert looked.verdict(None).failing == 5
    assert "depend on an index that finds" in looked.says(None)
    assert "of the true 10 nearest in the whole table (at least 90% expected)" in looked.says(None)
    assert told in looked.says(None)


def test_an_ivfflat_index_built_on_an_empty_table_fails_until_it_is_built_anew(
    database: str,
) -> None:
    fill(database, before=[IVFFLAT], clusters=60)
    always(database, "ivfflat.probes = 2")
    assert retrieval(database, chosen()).held() == {None: False}
    run(database, "REINDEX INDEX items_embedding")
    assert retrieval(database, chosen()).held() == {None: True}


def test_rows_that_a_broken_index_does_not_hold_are_told(database: str) -> None:
    fill(database, indexes=[HNSW])
    always(database, "hnsw.ef_search = 200")
    ready = "UPDATE pg_index SET indisready = {} WHERE indexrelid = 'items_embedding'::regclass"
    # An index that is not ready is not kept up to date: its rows move without it.
    run(database, ready.format("false"), "UPDATE items SET embedding = embedding")
    run(database, ready.format("true"))
    looked = retrieval(database, chosen())
    assert looked.held() == {None: False}
    assert looked.verdict(None).failing == 5
    assert "do not find themselves among the 10 nearest to their own vector" in looked.says(None)


def test_a_tenants_filter_that_starves_the_scan_fails_for_that_tenant(database: str) -> None:
    tenants = ["big"] * 60
    tenants[17] = "small"
    fill(database, tenants, indexes=[HNSW])
    # As a large table would be planned: through the index, and filtered afterwards.
    always(database, "enable_seqscan = off", "enable_sort = off", "hnsw.ef_search = 60")
    looked = retrieval(database, chosen(tenant="tenant"))
    assert looked.held() == {"big": True, "small": False}
    assert "of the true 10 nearest within their tenant" in looked.says("small")
    always(database, "hnsw.iterative_scan = strict_order", "hnsw.ef_search = 200")
    assert retrieval(database, chosen(tenant="tenant")).held() == {"big": True, "small": True}


def test_a_tenant_that_is_searched_exactly_holds(database: str) -> None:
    tenants = ["big"] * 60
    tenants[17] = "small"
    fill(
        database,
        tenants,
        indexes=[HNSW, "CREATE INDEX items_tenant ON items (tenant)"],
    )
    always(database, "hnsw.ef_search = 200")
    assert retrieval(database, chosen(tenant="tenant")).held() == {"big": True, "small": True}


def test_many_rows_with_one_vector_find_themselves_in_each_other(database: str) -> None:
    fill(database, indexes=[HNSW])
    run(
        database,
        "UPDATE items SET embedding = (SELECT embedding FROM items WHERE id = 0) WHERE id < 40",
        "DELETE FROM items WHERE id >= 60",
        "REINDEX INDEX items_embedding",
    )
    assert retrieval(database, chosen()).held() == {None: True}


def test_vectors_without_a_direction_are_not_searched_with(database: str) -> None:
    fill(database, indexes=[HNSW])
    zero = "[" + ",".join(["0"] * DIMENSIONS) + "]"
    run(database, f"UPDATE items SET embedding = '{zero}'")
    looked = retrieval(database, chosen())
    assert looked.says(None) == "no row with a vector that an index can hold"


def test_an_index_of_another_metric_is_not_looked_through(database: str) -> None:
    fill(database, indexes=[HNSW])
    looked = retrieval(database, chosen(metric="l2"))
    assert looked.held() == {None: False}
    assert "no valid index of public.items fits column 'embedding' and metric 'l2'" in looked.says(
        None
    )
    (finding,) = looked.table.findings
    assert finding.whole_table


@pytest.mark.parametrize(
    ("metric", "operators"),
    [("l2", "vector_l2_ops"), ("inner_product", "vector_ip_ops"), ("cosine", "vector_cosine_ops")],
)
def test_each_metric_is_searched_by_its_own_operator(
    database: str, metric: str, operators: str
) -> None:
    fill(database, indexes=[f"CREATE INDEX i ON items USING hnsw (embedding {operators})"])
    always(database, "hnsw.ef_search = 400")
    assert retrieval(database, chosen(metric=metric)).held() == {None: True}


def test_an_index_on_an_expression_is_found_and_searched(database: str) -> None:
    cast = f"(embedding::halfvec({DIMENSIONS})) halfvec_cosine_ops"
    fill(database, indexes=[f"CREATE INDEX i ON items USING hnsw ({cast})"])
    always(database, "hnsw.ef_search = 200")
    with sampling(database, chosen()) as (_, examination):
        assert searchable(examination.tables[0].target)
    assert retrieval(database, chosen()).held() == {None: True}
    always(database, "hnsw.ef_search = 1")
    assert retrieval(database, chosen()).held() == {None: False}


def test_a_partial_index_serves_searches_that_state_its_condition(database: str) -> None:
    partial = f"{HNSW} WHERE NOT archived"
    fill(database, indexes=[partial])
    always(database, "hnsw.ef_search = 200")
    assert retrieval(database, chosen(where="NOT archived")).held() == {None: True}
    looked = retrieval(database, chosen())
    assert looked.held() == {None: False}
    assert "PostgreSQL answers no such search with items_embedding" in looked.says(None)


def test_a_table_without_an_index_is_not_searched_unless_one_is_declared(database: str) -> None:
    fill(database)
    with sampling(database, chosen()) as (_, examination):
        assert not searchable(examination.tables[0].target)
    with sampling(database, chosen(index="hnsw")) as (_, examination):
        assert searchable(examination.tables[0].target)
    assert "see the index check" in retrieval(database, chosen(index="hnsw")).says(None)


def test_a_partitioned_table_is_searched_through_the_indexes_of_its_partitions(
    database: str,
) -> None:
    fill(database)
    run(
        database,
        "ALTER TABLE items RENAME TO loose",
        f"CREATE TABLE items (id int, tenant text, body text, embedding vector({DIMENSIONS}),"
        " PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "CREATE TABLE items_1 PARTITION OF items FOR VALUES FROM (0) TO (1500)",
        "CREATE TABLE items_2 PARTITION OF items FOR VALUES FROM (1500) TO (9999)",
        "INSERT INTO items SELECT id, tenant, body, embedding FROM loose",
        "CREATE INDEX i ON items USING hnsw (embedding vector_cosine_ops)",
        "ANALYZE items",
    )
    always(database, "hnsw.ef_search = 200")
    assert retrieval(database, chosen()).held() == {None: True}
    always(database, "hnsw.ef_search = 1")
    assert retrieval(database, chosen()).held() == {None: False}


def test_both_servers_are_searched_alike(each_database: str) -> None:
    fill(each_database, indexes=[HNSW])
    always(each_database, "hnsw.ef_search = 200")
    assert retrieval(each_database, chosen()).held() == {None: True}
    always(each_database, "hnsw.ef_search = 1")
    assert retrieval(each_database, chosen()).held() == {None: False}


def test_a_store_is_searched_as_a_whole(database: str) -> None:
    fill(database, ["acme", "globex"])
    run(
        database,
        f"CREATE TABLE vectors (item int PRIMARY KEY, embedding vector({DIMENSIONS}))",
        "INSERT INTO vectors SELECT id, embedding FROM items",
        "ALTER TABLE items DROP COLUMN embedding",
        "CREATE INDEX i ON vectors USING hnsw (embedding vector_cosine_ops)",
        "ANALYZE",
    )
    store = {"name": "vectors", "key": ["item"]}
    always(database, "hnsw.ef_search = 200")
    looked = retrieval(database, chosen(tenant="tenant", store=store))
    assert looked.held() == {"acme": True, "globex": True}
    always(database, "hnsw.ef_search = 1")
    looked = retrieval(database, chosen(tenant="tenant", store=store))
    assert looked.held() == {"acme": False, "globex": False}
