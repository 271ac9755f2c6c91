"""Whole repairs with keys that have to wait: nobody sends too early, and nobody else is held up."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from checks.canary.sampler import TenantTexts
from remediation.journal.outcomes import Outcome
from remediation.provider.rate_limits import RateLimits
from remediation.table_repair.waiting_batches import MOST_WAITING
from tests.drivers.repairs import docs, environment, key_of, meanwhile, opened, repaired, settings
from tests.servers.provider_server import ProviderServer, ReceivedRequest, Reply

if TYPE_CHECKING:
    import threading
    from pathlib import Path

KEYS = environment("acme", "globex")
ACME, GLOBEX = key_of("acme"), key_of("globex")


def of(server: ProviderServer, key: str) -> list[ReceivedRequest]:
    return [request for request in server.requests if request.key == key]


@pytest.mark.parametrize("healthy", [0, 1], ids=["an unproven key", "a proven key"])
def test_a_rate_limited_key_is_left_alone_and_other_tenants_go_on(
    database: str, tmp_path: Path, healthy: int
) -> None:
    # acme's rows are read first: put in line, globex would wait for all of them.
    rows = {"acme": (healthy, 80), "globex": (healthy, 60)}
    with docs(database, rows) as table, ProviderServer() as server:
        refused: list[float] = []

        def limited(request: ReceivedRequest) -> Reply | None:
            if request.key != ACME or ("document 1 of acme" in request.texts and healthy):
                return None
            if refused and time.monotonic() > refused[0] + 1.5:
                return None
            refused.append(time.monotonic())
            return Reply(status=429, headers={"retry-after-ms": "2500"})

        server.always(limited)
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 140, "fixed": 140}
        assert table.wrong() == []
        # Those that were in flight together, and nothing more, were refused.
        assert 1 <= len(refused) <= (4 if healthy else 1)
        later = [request.at for request in of(server, ACME) if request.at > refused[-1]]
        assert min(later) >= refused[0] + 2.5
        assert max(request.at for request in of(server, GLOBEX)) < min(later)


def test_more_batches_than_are_put_aside_wait_in_line_and_none_is_lost(
    database: str, tmp_path: Path
) -> None:
    more = MOST_WAITING + 20
    with docs(database, {"acme": (1, more), "globex": (0, 3)}) as table, ProviderServer() as server:
        server.next(Reply(), *[Reply(status=429, headers={"retry-after-ms": "800"})] * 2)
        chosen = settings(server, provider={"batch_size": 1})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": more + 3, "fixed": more + 3}
        assert table.wrong() == []


def most_at_once(requests: list[ReceivedRequest], seconds: float) -> list[list[ReceivedRequest]]:
    """The requests of every window of so many seconds that begins with one."""
    return [[r for r in requests if first.at <= r.at < first.at + seconds] for first in requests]


def test_the_limits_of_the_settings_hold_for_a_key_that_tenants_share(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (2, 30), "globex": (2, 30)}) as table, ProviderServer() as server:
        chosen = settings(server, keys={"fallback_env": "PLATFORM"})
        done = repaired(
            database,
            chosen,
            tmp_path,
            keys={"PLATFORM": "sk-platform-0000"},
            limits=RateLimits(requests_per_minute=4, window=1.0),
        )
        assert done.counts() == {"selected": 60, "fixed": 60}
        assert table.wrong() == []
        assert len(server.requests) == 2 + 12
        assert max(map(len, most_at_once(server.requests, 1.0))) <= 4


def test_the_limit_of_tokens_holds_and_makes_requests_smaller(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (0, 24)}) as table, ProviderServer() as server:
        # 18 characters, and so 6 or 7 tokens by estimate: no more than 3 texts in a request.
        chosen = settings(server, repair={"tokens_per_minute": 21})
        done = repaired(
            database,
            chosen,
            tmp_path,
            keys=KEYS,
            limits=RateLimits(tokens_per_minute=21, window=0.5),
        )
        assert done.counts() == {"selected": 24, "fixed": 24}
        assert table.wrong() == []
        counted = [
            sum(7 if len(text) > 18 else 6 for request in window for text in request.texts)
            for window in most_at_once(server.requests, 0.5)
        ]
        assert max(counted) <= 21


def test_a_text_that_no_minute_allows_is_quarantined_with_the_setting_that_forbids_it(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 6)}) as table, ProviderServer() as server:
        table.execute("UPDATE docs SET body = repeat('long ', 100) WHERE id = 4")
        limits = RateLimits(tokens_per_minute=100, window=0.2)
        chosen = settings(server, repair={"tokens_per_minute": 100})
        done = repaired(database, chosen, tmp_path, keys=KEYS, limits=limits)
        assert done.counts() == {"selected": 6, "fixed": 5, "quarantined": 1}
        (reason,) = done.reasons(Outcome.QUARANTINED)
        assert reason.startswith("counted at 167 tokens, more than [repair] tokens_per_minute")


def test_the_limits_that_the_provider_states_are_kept_without_a_refusal(
    database: str, tmp_path: Path
) -> None:
    # A bucket of 3 requests that is full again every 0.6 s after it was begun.
    with docs(database, {"acme": (1, 60)}) as table, ProviderServer() as server:
        begun = [0.0, 0]
        refusals = []

        def bucket(request: ReceivedRequest) -> Reply:
            if request.at >= begun[0] + 0.6:
                begun[:] = [request.at, 0]
            begun[1] += 1
            if begun[1] > 3:
                refusals.append(request)
                return Reply(status=429)
            left = f"{max(1, round((begun[0] + 0.6 - request.at) * 1000) + 1)}ms"
            return Reply(
                headers={
                    "x-ratelimit-limit-requests": "3",
                    "x-ratelimit-remaining-requests": str(int(3 - begun[1])),
                    "x-ratelimit-reset-requests": left,
                }
            )

        server.always(bucket)
        chosen = settings(server, provider={"concurrency": 1})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 60, "fixed": 60}
        assert table.wrong() == []
        assert refusals == []


def test_a_key_that_is_limited_for_good_costs_bounded_requests_and_stops_its_tenant_alone(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 100), "globex": (0, 20)}) as table, ProviderServer() as server:
        server.always(
            lambda request: (
                Reply(status=429, headers={"retry-after-ms": "5"})
                if request.key == ACME and "document 1 of acme" not in request.texts
                else None
            )
        )
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 120, "fixed": 20, "failed": 100}
        assert done.docs.stopped is None
        # The probe; then 3 tries, as the test's policy has it, of 3 requests, and what was in
        # flight beside the first of them.
        assert len(of(server, ACME)) <= 1 + 3 * 3 + 2 * 4
        assert any("given up after 3 requests" in r for r in done.reasons(Outcome.FAILED))
        assert len(table.wrong()) == 100


def test_a_provider_that_asks_for_an_hour_is_neither_asked_again_nor_waited_for(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (0, 100), "globex": (0, 20)}), ProviderServer() as server:
        server.always(
            lambda request: (
                Reply(status=429, headers={"retry-after": "3600"}) if request.key == ACME else None
            )
        )
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 120, "fixed": 20, "failed": 100}
        # Only the first is sent: the key is not to be used before the hour is over.
        assert len(of(server, ACME)) == 1


def test_over_half_of_fifty_tries_without_an_answer_stop_their_tenant_alone(
    database: str, tmp_path: Path
) -> None:
    with (
        docs(database, {"acme": (1, 300), "globex": (1, 100)}) as table,
        ProviderServer() as server,
    ):
        seen: Counter[str] = Counter()

        def two_of_three(request: ReceivedRequest) -> Reply | None:
            first = request.texts[0]
            seen[first] += 1
            if request.key != ACME or first == "document 1 of acme" or seen[first] == 3:
                return None
            return Reply(status=503) if seen[first] == 1 else Reply(body=b"{}")

        server.always(two_of_three)
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        counts = done.counts()
        assert counts["selected"] == counts["fixed"] + counts["failed"] == 400
        assert counts["fixed"] >= 100 + 50
        (reason,) = done.reasons(Outcome.FAILED)
        assert reason.startswith("given up, as ")
        assert " tries had no usable answer: " in reason
        assert 50 <= len(of(server, ACME)) <= 50 + 2 * 4
        assert {
            tenant
            for (tenant,) in table.execute(
                "SELECT DISTINCT tenant FROM docs WHERE embedding IS NULL"
            )
        } == {"acme"}


def test_refused_texts_are_answers_and_stop_nobody(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (1, 40)}) as table, ProviderServer() as server:
        table.execute("UPDATE docs SET body = body || ' poison' WHERE id BETWEEN 2 AND 36")
        server.poison("poison")
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 40, "fixed": 5, "quarantined": 35}
        assert len(server.requests) > 50


@pytest.mark.parametrize(
    "dead",
    [
        Reply(status=401, pause=0.1),
        Reply(status=429, pause=0.1, error={"code": "insufficient_quota"}),
    ],
    ids=["a dead key", "an exhausted quota"],
)
def test_a_key_that_dies_with_eight_requests_in_flight_is_not_hammered(
    database: str, tmp_path: Path, dead: Reply
) -> None:
    with docs(database, {"acme": (1, 200), "globex": (1, 40)}), ProviderServer() as server:
        server.always(
            lambda request: (
                dead if request.key == ACME and len(of(server, ACME)) > 3 else Reply(pause=0.1)
            )
        )
        chosen = settings(server, provider={"concurrency": 8})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        counts = done.counts()
        assert counts["selected"] == counts["fixed"] + counts["failed"] == 240
        assert counts["fixed"] == 40 + 2 * 5
        assert len(done.reasons(Outcome.FAILED)) == 1
        assert len(of(server, ACME)) <= 3 + 8


def test_a_dead_key_that_tenants_share_is_asked_once_and_then_nobody_waits_for_it(
    database: str, tmp_path: Path
) -> None:
    tenants = {f"tenant {number}": (0, 2) for number in range(30)}
    with docs(database, tenants), ProviderServer(keys=set()) as server:
        told: list[str] = []
        begun = time.monotonic()
        done = repaired(
            database,
            settings(server, keys={"fallback_env": "PLATFORM"}),
            tmp_path,
            keys={"PLATFORM": "sk-platform-0000"},
            limits=RateLimits(requests_per_minute=1),
            on_pause=told.append,
        )
        assert done.counts() == {"selected": 60, "failed": 60}
        assert len(server.requests) == 1
        assert told == []
        assert time.monotonic() - begun < 30.0


def test_an_interrupt_ends_a_long_wait_at_once(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (0, 60)}) as table, ProviderServer() as server:
        server.always(Reply(status=429, headers={"retry-after": "110"}))

        def interrupt(stop: threading.Event) -> None:
            server.wait_for_requests(1)
            stop.wait(0.5)
            os.kill(os.getpid(), signal.SIGINT)

        with opened(database, settings(server), keys=KEYS) as repair:
            plan = repair.plan()
            begun = time.monotonic()
            with meanwhile(interrupt), pytest.raises(KeyboardInterrupt):
                repair.run(plan, tmp_path, lambda _: None)
            assert time.monotonic() - begun < 60.0
            (result,) = repair.results
        assert result.stopped == "the repair was interrupted"
        assert result.account.selected > 0
        assert result.account.count(Outcome.SKIPPED) == result.account.selected
        assert len(server.requests) == 1
        assert len(table.wrong()) == 60


def test_what_was_let_through_before_a_cap_is_finished_after_its_wait(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (0, 20)}), ProviderServer() as server:
        server.next(Reply(status=429, headers={"retry-after-ms": "300"}))
        chosen = settings(server, repair={"max_rows": 5})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 20, "fixed": 5, "skipped": 15}
        assert len(server.requests) == 2


def test_the_canary_keeps_the_limits_that_it_shares_with_the_repair(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 10), "globex": (1, 0)}), ProviderServer() as server:
        chosen = settings(server, keys={"fallback_env": "PLATFORM"})
        with opened(
            database,
            chosen,
            keys={"PLATFORM": "sk-platform-0000"},
            limits=RateLimits(requests_per_minute=3, window=1.0),
        ) as repair:
            target = repair.examination.tables[0].target
            texts = [
                TenantTexts(target=target, tenant=tenant, texts=("one", "two"))
                for tenant in ("acme", "globex")
            ]
            with repair.embedder(dry_run=False) as canary:
                for _ in range(2):
                    assert [answer.unseen for answer in canary.embed(texts)] == [None, None]
            repair.run(repair.plan(), tmp_path, lambda _: None)
        assert len(server.requests) == 4 + 1 + 2
        assert max(map(len, most_at_once(server.requests, 1.0))) <= 3
