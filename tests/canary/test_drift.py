"""Drift: which vectors it finds wrong, what it asks for whom, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checks.items.cases import Case
from checks.items.judgements import judge
from tests.drivers.canaries import drift
from tests.drivers.repairs import docs, environment, key_of, settings
from tests.servers.provider_server import ProviderServer, Reply, vector_of

if TYPE_CHECKING:
    from tests.drivers.repairs import Docs

KEYS = environment("acme", "globex", "initech")
ROWS: dict[str | None, tuple[int, int]] = {"acme": (20, 0), "globex": (20, 0)}


def embed_as(table: Docs, condition: str, *, model: str) -> None:
    """Give rows the vectors that another model gives for their texts."""
    for number, body in table.execute(f"SELECT id, body FROM docs WHERE {condition}"):
        numbers = ",".join(str(x) for x in vector_of(body, model=model).tolist())
        table.execute(
            f"UPDATE docs SET embedding = %s::text::{table.type} WHERE id = %s",
            (f"[{numbers}]", number),
        )


@pytest.mark.parametrize("kind", ["vector(8)", "vector", "halfvec(8)", "real[]"])
def test_whole_segments_hold_whatever_their_type(database: str, kind: str) -> None:
    with docs(database, ROWS, kind), ProviderServer() as server:
        looked = drift(database, settings(server), keys=KEYS)
        assert looked.held() == {"acme": True, "globex": True}
        assert {v.rows for v in looked.table.verdicts if v.check == "drift"} == {5}


def test_a_tenant_embedded_by_another_model_is_the_only_one_to_drift(database: str) -> None:
    with docs(database, ROWS) as table, ProviderServer() as server:
        embed_as(table, "tenant = 'globex'", model="another-model")
        looked = drift(database, settings(server), keys=KEYS)
        assert looked.held() == {"acme": True, "globex": False}
        assert looked.verdict("globex").failing == 5
        (finding,) = [f for f in looked.table.findings if f.check == "drift"]
        assert finding.message.startswith(
            "drift: 5 of 5 sampled rows of tenant 'globex' in public.docs have a vector that is"
            " not what model 'text-embedding-3-small' gives for their text now (cosine "
        )
        assert "No sampled row agrees" in finding.message


def test_vectors_of_other_texts_drift(database: str) -> None:
    with docs(database, {"acme": (20, 0)}) as table, ProviderServer() as server:
        table.execute(
            "UPDATE docs SET embedding = other.embedding FROM docs AS other"
            " WHERE other.id = 21 - docs.id"
        )
        looked = drift(database, settings(server), keys=KEYS)
        assert looked.verdict("acme").failing == 5


def test_one_wrong_vector_in_the_sample_is_enough_and_its_query_shows_it(database: str) -> None:
    with docs(database, {"acme": (4, 0)}) as table, ProviderServer() as server:
        embed_as(table, "id = 3", model="another-model")
        looked = drift(database, settings(server), keys=KEYS)
        verdict = looked.verdict("acme")
        assert (verdict.rows, verdict.failing, verdict.holds) == (4, 1, False)
        assert "Other sampled rows agree" in looked.says("acme")
        assert verdict.sampled is not None
        assert verdict.sampled.query is not None
        assert [row[0] for row in table.execute(verdict.sampled.query)] == [3]


def test_min_and_severity_are_those_of_the_settings(database: str) -> None:
    stated = {"checks": {"drift": {"min": 0.75, "severity": "warning"}}}
    with docs(database, {"acme": (4, 0)}) as table, ProviderServer() as server:
        embed_as(table, "id = 3", model="another-model")
        looked = drift(database, settings(server, table=stated), keys=KEYS)
        assert looked.held() == {"acme": True}
        embed_as(table, "id = 4", model="another-model")
        looked = drift(database, settings(server, table=stated), keys=KEYS)
        assert looked.held() == {"acme": False}
        assert looked.verdict("acme").severity == "warning"


def test_each_segment_is_asked_in_one_request_with_its_own_key(database: str) -> None:
    with docs(database, ROWS), ProviderServer() as server:
        looked = drift(database, settings(server), keys=KEYS)
        assert sorted((r.key or "", len(r.texts)) for r in server.requests) == [
            (key_of("acme"), 5),
            (key_of("globex"), 5),
        ]
        assert all(r.key == key_of(text.split()[-1]) for r in server.requests for text in r.texts)
        ((price, segments, rows),) = looked.prices
        assert (price.requests, segments, rows) == (2, 2, 10)
        assert price.tokens > 0


def test_a_sample_larger_than_a_batch_is_asked_in_several_requests(database: str) -> None:
    with docs(database, {"acme": (20, 0)}), ProviderServer() as server:
        looked = drift(database, settings(server, canary={"sample": 12}), keys=KEYS)
        assert sorted(len(r.texts) for r in server.requests) == [2, 5, 5]
        assert looked.prices[0][0].requests == 3
        assert looked.verdict("acme").rows == 12
        assert looked.held() == {"acme": True}


def test_the_same_seed_draws_the_same_rows_and_another_one_others(database: str) -> None:
    with docs(database, {"acme": (200, 0)}), ProviderServer() as server:
        drawn = []
        for seed in (1, 1, 2):
            server.requests.clear()
            drift(database, settings(server), keys=KEYS, seed=seed)
            drawn.append(set(server.texts))
        assert drawn[0] == drawn[1] != drawn[2]
        assert {len(texts) for texts in drawn} == {5}


def test_rows_that_fail_another_check_are_not_sampled(database: str) -> None:
    with docs(database, {"acme": (3, 3)}, "vector") as table, ProviderServer() as server:
        table.execute("UPDATE docs SET embedding = '[1,2]' WHERE id = 1")
        table.execute("UPDATE docs SET body = ' ' WHERE id = 2")
        looked = drift(database, settings(server), keys=KEYS)
        assert looked.verdict("acme").rows == 1
        assert server.texts == ["document 3 of acme"]


def test_a_segment_without_a_healthy_row_is_no_verdict(database: str) -> None:
    with docs(database, {"acme": (0, 3), "globex": (3, 0)}), ProviderServer() as server:
        looked = drift(database, settings(server), keys=KEYS)
        assert looked.says("acme") == "no healthy row with a vector, so there was nothing to sample"
        assert looked.verdict("acme").rows == 0
        assert looked.held()["globex"]


def test_a_tenant_without_a_key_is_not_looked_at_and_not_asked(database: str) -> None:
    with docs(database, ROWS), ProviderServer() as server:
        looked = drift(database, settings(server), keys=environment("acme"))
        assert looked.held() == {"acme": True, "globex": False}
        assert "no key for tenant 'globex'" in looked.says("globex")
        assert looked.verdict("globex").failing == 0
        assert {r.key for r in server.requests} == {key_of("acme")}
        assert looked.prices[0][0].requests == 1


def test_a_refused_key_hides_its_own_segment_alone(database: str) -> None:
    with docs(database, ROWS), ProviderServer(keys={key_of("acme")}) as server:
        looked = drift(database, settings(server), keys=KEYS)
        assert looked.held() == {"acme": True, "globex": False}
        assert "provider answered 401" in looked.says("globex")
        (finding,) = [f for f in looked.table.findings if f.check == "drift"]
        assert finding.whole_table
        assert "could not look at tenant 'globex' in public.docs" in finding.message


def test_an_alias_in_the_answer_is_no_drift_where_the_vectors_agree(database: str) -> None:
    with docs(database, ROWS) as table, ProviderServer() as server:
        server.always(Reply(change=lambda answer: answer.update(model="BAAI/bge-m3")))
        looked = drift(database, settings(server), keys=KEYS)
        assert looked.held() == {"acme": True, "globex": True}
        assert table.wrong() == []


def test_a_provider_that_is_down_is_no_pass_and_blames_no_row(database: str) -> None:
    with docs(database, ROWS), ProviderServer() as server:
        server.always(Reply(status=503))
        looked = drift(database, settings(server), keys=KEYS)
        assert looked.held() == {"acme": False, "globex": False}
        assert {v.failing for v in looked.table.verdicts if v.check == "drift"} == {0}
        assert "503" in looked.says("acme")


def test_a_text_that_the_provider_never_takes_is_left_out(database: str) -> None:
    with docs(database, {"acme": (3, 0)}), ProviderServer() as server:
        server.poison("document 2")
        looked = drift(database, settings(server), keys=KEYS)
        assert looked.held() == {"acme": True}
        assert looked.verdict("acme").rows == 2


def test_a_canary_beyond_the_cap_asks_nothing_and_is_no_pass(database: str) -> None:
    with docs(database, ROWS), ProviderServer() as server:
        prices = {"price_per_million_tokens": 1_000_000.0}
        chosen = settings(server, provider=prices, repair={"max_cost": 10.0})
        looked = drift(database, chosen, keys=KEYS)
        assert server.requests == []
        assert looked.held() == {"acme": False, "globex": False}
        assert "more than the cap of $10.00 (--max-cost); nothing was asked" in looked.says("acme")


def test_a_table_that_cannot_be_sampled_in_time_is_no_pass(database: str) -> None:
    with docs(database, ROWS) as table, ProviderServer() as server:
        chosen = settings(server, database={"statement_timeout": "200ms"})

        def lock() -> None:
            table.execute("BEGIN")
            table.execute("LOCK TABLE docs")

        looked = drift(database, chosen, keys=KEYS, after_examination=lock)
        assert looked.held() == {"acme": False, "globex": False}
        assert looked.says("acme") == (
            "public.docs could not be sampled: canceling statement due to statement timeout"
        )
        assert server.requests == []


def test_both_servers_are_sampled_alike(each_database: str) -> None:
    with docs(each_database, ROWS) as table, ProviderServer() as server:
        embed_as(table, "tenant = 'acme'", model="another-model")
        looked = drift(each_database, settings(server), keys=KEYS)
        assert looked.held() == {"acme": False, "globex": True}


def test_rows_seen_to_drift_come_before_tenants_that_could_not_be_asked(database: str) -> None:
    whole = Case(check="drift", table="public.docs")
    with docs(database, ROWS) as table, ProviderServer() as server:
        embed_as(table, "tenant = 'acme'", model="another-model")
        looked = drift(database, settings(server), keys=environment("acme"))
        judged = judge(whole, looked.examination)
        assert [finding.tenant for finding in judged.findings] == ["acme", "globex"]
        assert judged.not_examined is None
        embed_as(table, "tenant = 'acme'", model="text-embedding-3-small")
        looked = drift(database, settings(server), keys=environment("acme"))
        judged = judge(whole, looked.examination)
        assert judged.not_examined is not None
        assert "no key for tenant 'globex'" in judged.not_examined
