"""The probe: what it sends for whom, what it takes for agreement, and that it spends no more."""

from __future__ import annotations

from _thread import interrupt_main
from typing import TYPE_CHECKING

import numpy as np
import pytest

from checks.canary.sampler import cosine
from remediation.journal.outcomes import Outcome
from tests.drivers.repairs import docs, environment, key_of, opened, repaired, settings
from tests.servers.provider_server import ProviderServer, Reply

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic import SecretStr

    from remediation.provider.endpoint import Endpoint
    from remediation.provider.protocol import Answer, EmbeddingProvider

KEYS = environment("acme", "globex", "initech") | {"PLATFORM": "sk-platform-0000"}


def test_each_tenants_healthy_rows_go_in_one_request_with_its_own_key(
    database: str, tmp_path: Path
) -> None:
    rows: dict[str | None, tuple[int, int]] = {"acme": (9, 1), "globex": (2, 1), "initech": (0, 1)}
    with docs(database, rows), ProviderServer() as server:
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        probes = {r.key: r.texts for r in server.requests[:2]}
        assert probes == {
            key_of("acme"): tuple(f"document {number} of acme" for number in (9, 8, 7)),
            key_of("globex"): tuple(f"document {number} of globex" for number in (12, 11)),
        }
        assert {result.tenant: len(result.cosines) for result in done.docs.probes} == {
            "acme": 3,
            "globex": 2,
        }
        assert done.counts() == {"selected": 3, "fixed": 3}


def test_rows_without_a_tenant_are_probed_with_the_declared_fallback(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {None: (2, 2)}) as table, ProviderServer() as server:
        chosen = settings(server, keys={"fallback_env": "PLATFORM"})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 2, "fixed": 2}
        assert len(done.docs.probes) == 1
        assert {r.key for r in server.requests} == {"sk-platform-0000"}
        assert table.wrong() == []


def test_one_disagreeing_row_refuses_with_its_tenant_and_number(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (3, 2), "globex": (3, 2)}) as table, ProviderServer() as server:
        table.execute("UPDATE docs SET embedding = '[1,0,0,0,0,0,0,0]' WHERE id = 7")
        versions = table.versions()
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.docs.stopped is not None
        assert "tenant 'globex': " in done.docs.stopped
        assert "'acme'" not in done.docs.stopped
        assert table.versions() == versions
        assert done.counts() == {"selected": 4, "skipped": 4}


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
def test_vectors_of_another_length_are_refused_where_searches_see_it(
    database: str, tmp_path: Path, metric: str
) -> None:
    with docs(database, {"acme": (3, 2), "globex": (3, 2)}) as table, ProviderServer() as server:
        table.execute("UPDATE docs SET embedding = l2_normalize(embedding) * '[2,2,2,2,2,2,2,2]'")
        versions = table.versions()
        done = repaired(database, settings(server, table={"metric": metric}), tmp_path, keys=KEYS)
        if metric == "cosine":
            assert done.counts() == {"selected": 4, "fixed": 4}
            return
        assert "another length than those stored (1, stored 2)" in (done.docs.stopped or "")
        assert table.versions() == versions
        assert done.counts() == {"selected": 4, "skipped": 4}


def test_a_dead_key_met_by_the_probe_is_not_tried_again(database: str, tmp_path: Path) -> None:
    with (
        docs(database, {"acme": (3, 20), "globex": (3, 2)}),
        ProviderServer(keys={key_of("globex")}) as server,
    ):
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 22, "fixed": 2, "failed": 20}
        assert [r.key for r in server.requests].count(key_of("acme")) == 1


def test_an_outage_during_the_probe_proves_nothing_so_nothing_is_written(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (3, 4)}) as table, ProviderServer() as server:
        versions = table.versions()
        server.next(*[Reply(status=503)] * 5)  # two of them for the harmless text
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.docs.probes[0].cosines == ()
        assert "the probe got no answer" in (done.docs.stopped or "")
        assert done.counts() == {"selected": 4, "skipped": 4}
        assert table.versions() == versions


def test_a_tenant_whose_probe_got_no_answer_waits_while_others_are_repaired(
    database: str, tmp_path: Path
) -> None:
    with (
        docs(database, {"acme": (3, 4), "globex": (3, 2)}) as table,
        ProviderServer() as server,
    ):
        dead = key_of("acme")
        server.always(lambda request: Reply(status=503) if request.key == dead else None)
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 6, "fixed": 2, "failed": 4}
        assert done.docs.stopped is None
        assert table.wrong() != []


def test_vectors_of_mixed_dimensions_are_no_reason_to_refuse(database: str, tmp_path: Path) -> None:
    checks = {"dimensionality": {"enabled": False}}
    with docs(database, {"acme": (6, 3)}, "vector") as table, ProviderServer() as server:
        table.execute("UPDATE docs SET embedding = '[1,2]' WHERE id = 6")
        done = repaired(database, settings(server, table={"checks": checks}), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 3, "fixed": 3}
        assert done.docs.probes[0].cosines == pytest.approx([1.0, 1.0])


def test_the_probe_is_counted_against_the_cap_of_dollars(database: str, tmp_path: Path) -> None:
    prices = {"price_per_million_tokens": 1_000_000.0}
    with docs(database, {"acme": (3, 2)}) as table, ProviderServer() as server:
        chosen = settings(server, provider=prices, repair={"max_cost": 20.0})
        with opened(database, chosen, keys=KEYS) as repair:
            plan = repair.plan()
            assert plan.tables[0].probe_tokens == 3 * 6  # estimated: 18 characters each
            repair.run(plan, tmp_path, lambda _: None)
        assert len(server.requests) == 1
        assert len(table.wrong()) == 2


def test_the_cosine_of_unlike_shapes_and_of_no_direction_is_none_at_all() -> None:
    one, zero = np.ones(3, np.float32), np.zeros(3, np.float32)
    assert cosine(one, one) == pytest.approx(1.0)
    assert cosine(one, -one) == pytest.approx(-1.0)
    assert cosine(one, np.ones(2, np.float32)) == 0.0
    assert cosine(one, zero) == 0.0


def test_what_the_probe_asked_is_accounted_though_it_is_interrupted(
    database: str, tmp_path: Path
) -> None:
    made = {f"t{number}": (3, 2) for number in range(12)}
    with (
        ProviderServer() as server,
        docs(database, made),
        opened(database, settings(server), keys=environment(*made)) as repair,
    ):
        plan, open_provider = repair.plan(), repair.provider_at
        interrupts = iter([interrupt_main])

        def provider_at(endpoint: Endpoint) -> EmbeddingProvider:
            provider = open_provider(endpoint)
            ask = provider.ask

            def asked(texts: Sequence[str], key: SecretStr) -> Answer:
                if len(server.requests) >= 5:
                    next(interrupts, lambda: None)()
                return ask(texts, key)

            provider.ask = asked  # type: ignore[method-assign]
            return provider

        repair.provider_at = provider_at
        with pytest.raises(KeyboardInterrupt):
            repair.run(plan, tmp_path, lambda _: None)
        (result,) = repair.results
        assert result.usage.requests == len(server.requests) >= 5
        assert result.usage.tokens > 0
        assert repair.budget.spent > 0
        assert (result.account.selected, result.not_begun) == (0, 24)


@pytest.mark.parametrize("probe", [0, 3])
def test_a_provider_that_nobody_reaches_is_told_with_its_address(
    database: str, tmp_path: Path, probe: int
) -> None:
    made = {f"t{number}": (3, 2) for number in range(40)}
    with docs(database, made):
        chosen = settings("http://127.0.0.1:1/v1", repair={"probe": probe})
        done = repaired(database, chosen, tmp_path, keys=environment(*made))
    # What was in flight may still be tried.
    assert 12 <= done.docs.usage.requests <= 12 + 4
    reasons = done.reasons(Outcome.SKIPPED) | done.reasons(Outcome.FAILED)
    assert any(
        "connection refused by http://127.0.0.1:1/v1, 12 of 12 tries; check base_url" in reason
        for reason in reasons
    )
