"""The plan: its numbers are what the repair then does, and it does nothing itself."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from tests.drivers.repairs import TABLE, docs, environment, opened, repaired, settings
from tests.servers.provider_server import ProviderServer

TENANTS = ("acme", "globex", "initech")
KEYS = environment(*TENANTS[:2])
COUNTS = st.tuples(st.integers(0, 5), st.integers(0, 14))


@given(
    rows=st.fixed_dictionaries({}, optional=dict.fromkeys(TENANTS, COUNTS)),
    batch_size=st.integers(1, 6),
    probe=st.integers(0, 4),
    blank=st.booleans(),
)
@given_settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_plan_is_what_the_repair_then_does(
    database: str,
    rows: dict[str | None, tuple[int, int]],
    batch_size: int,
    probe: int,
    blank: bool,
) -> None:
    custom = [{"name": "noted", "failing_when": "note = 'bad'", "remedy": "re-embed"}]
    with docs(database, rows) as table, ProviderServer() as server:
        try:
            if blank:
                table.execute("UPDATE docs SET body = ' ', note = 'bad' WHERE id % 7 = 3")
            chosen = settings(
                server,
                provider={"batch_size": batch_size, "concurrency": 1},
                repair={"probe": probe, "write_concurrency": 1},
                table={"custom": custom},
            )
            with tempfile.TemporaryDirectory() as folder:
                done = repaired(database, chosen, Path(folder), keys=KEYS)
            assert len(server.requests) == done.plan.requests
            if not done.plan.tables:
                assert done.results == ()
                return
            (planned,) = done.plan.tables
            counts = done.counts()
            assert counts.get("fixed", 0) == planned.rows
            assert counts.get("failed", 0) == planned.rows_without_key
            assert counts.get("quarantined", 0) == planned.without_text
            assert counts["selected"] == (
                planned.rows + planned.rows_without_key + planned.without_text
            )
            assert len(done.docs.probes) == planned.probe_requests
            # The server bills a token a word, which the estimate must not be under.
            assert done.docs.usage.tokens <= done.plan.tokens
        finally:
            table.execute(f"DROP TABLE {TABLE}")


def test_a_plan_asks_nobody_and_writes_nothing(database: str) -> None:
    with docs(database, {"acme": (2, 7), "globex": (2, 3)}) as table, ProviderServer() as server:
        versions = table.versions()
        with opened(database, settings(server), keys=KEYS) as repair:
            plan = repair.plan()
            assert repair.plan() == plan
        assert (plan.rows, plan.requests) == (10, 3 + 2)
        assert [line.tenant for line in plan.tables[0].tenants] == ["acme", "globex"]
        assert server.requests == []
        assert table.versions() == versions


def test_the_cap_that_would_end_the_repair_is_named(database: str) -> None:
    with docs(database, {"acme": (0, 7)}), ProviderServer() as server:
        for cap, name in ({"max_rows": 6}, "--max-rows"), ({"max_cost": 0.0}, "--max-cost"):
            with opened(database, settings(server, repair=cap), keys=KEYS) as repair:
                assert name in (repair.plan().capped or "")
        with opened(database, settings(server, repair={"max_rows": 7}), keys=KEYS) as repair:
            assert repair.plan().capped is None


def test_a_table_without_a_key_is_planned_as_not_repairable(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (1, 3)}) as table, ProviderServer() as server:
        table.execute("ALTER TABLE docs DROP CONSTRAINT docs_pkey")
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        (planned,) = done.plan.tables
        assert planned.unrepairable is not None
        assert "no primary key" in planned.unrepairable
        assert (planned.failing, planned.rows, done.results) == (3, 0, ())
        assert server.requests == []


def test_a_limit_by_the_minute_makes_the_plan_as_long_as_the_busiest_key_takes(
    database: str,
) -> None:
    with docs(database, {"acme": (0, 50), "globex": (0, 20)}):
        limits = {"requests_per_minute": 3}
        for keys, minutes in (
            ({"env": "KEY_{tenant}"}, 3),  # 10 requests of acme: in the minutes 0 to 3
            ({"env": "NONE_{tenant}", "fallback_env": "KEY_ACME"}, 4),  # 14 of both
        ):
            chosen = settings("http://127.0.0.1:1/v1", repair=limits, keys=keys)
            with opened(database, chosen, keys=KEYS) as repair:
                assert repair.plan().seconds == 60.0 * minutes
