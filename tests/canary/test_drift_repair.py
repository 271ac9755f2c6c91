"""What a repair does with drift: the rows it embeds again, those it leaves, when it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checks.canary.drift_verdicts import still_drifting
from remediation.provider.usage import Usage
from tests.canary.test_drift import embed_as
from tests.drivers.canaries import drift, repaired_with_drift, sampling
from tests.drivers.repairs import docs, environment, opened, settings
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from pathlib import Path

KEYS = environment("acme", "globex")


def test_vectors_that_changed_places_all_come_home(database: str, tmp_path: Path) -> None:
    # Each new vector is the very one that another drifting row was found with.
    with docs(database, {"acme": (8, 0)}) as table, ProviderServer() as server:
        table.execute(
            "UPDATE docs SET embedding = other.embedding FROM docs AS other"
            " WHERE docs.id <= 4 AND other.id = docs.id % 4 + 1"
        )
        assert table.wrong() == [1, 2, 3, 4]
        done = repaired_with_drift(
            database, settings(server, canary={"sample": 8}), tmp_path, keys=KEYS
        )
        assert done.counts() == {"selected": 4, "fixed": 4}
        assert table.wrong() == []


def test_a_segment_in_which_no_row_agrees_is_not_touched(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (6, 0), "globex": (6, 0)}) as table, ProviderServer() as server:
        embed_as(table, "tenant = 'acme'", model="another-model")
        embed_as(table, "id = 9", model="another-model")
        before = dict(table.rows("id, embedding::text"))
        done = repaired_with_drift(
            database, settings(server, canary={"sample": 6}), tmp_path, keys=KEYS
        )
        after = dict(table.rows("id, embedding::text"))
        assert {key for key in after if after[key] != before[key]} == {9}
        assert done.counts() == {"selected": 1, "fixed": 1}


def test_only_sampled_rows_are_repaired(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (40, 0)}) as table, ProviderServer() as server:
        embed_as(table, "id % 4 = 1", model="another-model")
        chosen = settings(server, canary={"sample": 12})
        drifting = drift(database, chosen, keys=KEYS).verdict("acme").failing
        assert 0 < drifting < 10
        done = repaired_with_drift(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": drifting, "fixed": drifting}
        assert len(table.wrong()) == 10 - drifting


def test_the_probe_refuses_where_rows_that_were_not_sampled_disagree(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (40, 0)}) as table, ProviderServer() as server:
        # The probe reads the last rows; those of the sample are scattered.
        embed_as(table, "id % 2 = 0 OR id > 25", model="another-model")
        versions = table.versions()
        done = repaired_with_drift(database, settings(server), tmp_path, keys=KEYS)
        assert done.docs.stopped is not None
        assert "the probe refused" in done.docs.stopped
        assert table.versions() == versions


def test_a_half_done_migration_is_finished_where_the_canary_sees_every_row(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (40, 0), "globex": (6, 0)}) as table, ProviderServer() as server:
        embed_as(table, "id % 2 = 0 AND tenant = 'acme'", model="another-model")
        before = dict(table.rows("id, embedding::text"))
        refused = repaired_with_drift(database, settings(server), tmp_path, keys=KEYS)
        assert "no smaller than the tenant's rows" in str(refused.docs.stopped)
        chosen = settings(server, canary={"sample": 40})
        done = repaired_with_drift(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 20, "fixed": 20}
        assert table.wrong() == []
        after = dict(table.rows("id, embedding::text"))
        assert {key for key in after if after[key] != before[key]} == set(range(2, 41, 2))


def test_a_row_drifts_as_long_as_it_holds_the_vector_it_was_seen_with(database: str) -> None:
    with docs(database, {"acme": (6, 0)}) as table, ProviderServer() as server:
        embed_as(table, "id IN (2, 5)", model="another-model")
        chosen = settings(server, canary={"sample": 6})
        with sampling(database, chosen) as (sampler, _):
            looked = drift(database, chosen, keys=KEYS)
            assert still_drifting(sampler, looked.table, looked.seen) == {"(2)", "(5)"}
            embed_as(table, "id = 2", model="text-embedding-3-small")
            assert still_drifting(sampler, looked.table, looked.seen) == {"(5)"}


def test_a_table_without_a_key_can_drift_and_not_be_repaired(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (6, 0)}) as table, ProviderServer() as server:
        table.execute("ALTER TABLE docs DROP CONSTRAINT docs_pkey")
        embed_as(table, "id IN (2, 5)", model="another-model")
        chosen = settings(server, canary={"sample": 6})
        verdict = drift(database, chosen, keys=KEYS).verdict("acme")
        assert (verdict.rows, verdict.failing) == (6, 2)
        assert repaired_with_drift(database, chosen, tmp_path, keys=KEYS).plan.tables == ()


def test_what_the_canary_spent_is_missing_from_what_a_repair_may_spend(
    database: str, tmp_path: Path
) -> None:
    prices = {"price_per_million_tokens": 1_000_000.0}
    with docs(database, {"acme": (3, 2)}) as table, ProviderServer() as server:
        chosen = settings(server, provider=prices, repair={"max_cost": 100.0})
        with opened(database, chosen, keys=environment("acme")) as repair:
            assert repair.plan().capped is None
            repair.budget.took = Usage(tokens=90)
            plan = repair.plan()
            assert plan.capped is not None
            assert "$100.00" in plan.capped
            repair.run(plan, tmp_path, lambda _: None)
        assert server.requests == []
        assert len(table.wrong()) == 2


def test_drifting_rows_of_a_store_are_repaired_there(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (8, 0)}) as table, ProviderServer() as server:
        embed_as(table, "id IN (2, 5)", model="another-model")
        table.execute("CREATE TABLE vectors (doc int PRIMARY KEY, embedding vector(8))")
        table.execute("INSERT INTO vectors SELECT id, embedding FROM docs")
        table.execute("ALTER TABLE docs DROP COLUMN embedding")
        store = {"store": {"name": "vectors", "key": ["doc"]}}
        chosen = settings(server, canary={"sample": 8}, table=store)
        looked = drift(database, chosen, keys=KEYS)
        assert looked.verdict("acme").failing == 2
        sampled = looked.verdict("acme").sampled
        assert sampled is not None
        assert sampled.query is not None
        assert sorted(row[0] for row in table.execute(sampled.query)) == [2, 5]
        done = repaired_with_drift(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 2, "fixed": 2}
        assert drift(database, chosen, keys=KEYS).held() == {"acme": True}
