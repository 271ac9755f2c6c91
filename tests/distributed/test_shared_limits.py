"""Limits and caps over several workers: none exceeds them, however many there are."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import SecretStr

from remediation.distributed.shared.limits import SharedRateLimits
from remediation.distributed.shared.schema import shared_connection
from remediation.distributed.sweeps import Sweeps
from remediation.journal.outcomes import Outcome
from remediation.provider.rate_limits import Sent
from tests.builders.tables import rows
from tests.drivers.repairs import docs, environment, key_of
from tests.drivers.workers import TENANTS, Site
from tests.servers.provider_server import ProviderServer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from checks.examination.run_context import RunContext
    from checks.exit_status import ExitStatus
    from remediation.run.repair_run import RepairRun

WINDOW = 0.5


def test_two_workers_together_keep_to_a_key_s_limits_and_to_what_either_was_told(
    shared_site: Site,
) -> None:
    key = SecretStr("sk-a-key-that-two-workers-have")
    with ExitStack() as stack:
        first, second = (
            SharedRateLimits(
                connection=stack.enter_context(shared_connection(shared_site.place)),
                requests_per_minute=5,
                tokens_per_minute=1_000,
                window=WINDOW,
            ).of(key)
            for _ in range(2)
        )
        sent: list[float] = []

        def send(limit: object) -> None:
            while time.monotonic() < begun + 2.5 * WINDOW:
                turn = limit.begin(10)  # type: ignore[attr-defined]
                if isinstance(turn, Sent):
                    sent.append(time.monotonic())
                    limit.end(turn)  # type: ignore[attr-defined]
                else:
                    time.sleep(min(turn, 0.05))

        begun = time.monotonic()
        threads = [threading.Thread(target=send, args=(limit,)) for limit in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sent.sort()
        assert len(sent) > 5
        assert all(later - one >= WINDOW for one, later in zip(sent, sent[5:], strict=False))
        # What one is told by its provider holds the other.
        wait_until(lambda: isinstance(second.begin(10), Sent))
        turn = first.begin(10)
        while not isinstance(turn, Sent):
            turn = first.begin(10)
        first.end(turn, hold=30.0)
        held = second.begin(10)
        assert not isinstance(held, Sent)
        assert held > 20
        assert second.held > 20
        kept = rows(shared_site.database, "SELECT key_hash FROM embedding_integrity.hold")
        assert len(kept) == 1
        assert "two-workers" not in str(kept)


def test_the_caps_of_a_run_hold_over_its_workers(shared_site: Site) -> None:
    site = shared_site
    with (
        docs(site.database, dict.fromkeys(TENANTS, (0, 50))),
        ProviderServer() as provider,
    ):
        site.write_settings(provider, repair="probe = 0\nmax_rows = 33")
        with site.worker_here(), site.worker_here():
            done = site.repaired()
            assert done.counts() == {"selected": 150, "fixed": 33, "skipped": 117}
            assert done.reasons(Outcome.SKIPPED) == {"the cap of 33 rows is reached (--max-rows)"}
            assert len(provider.texts) == 33


def test_the_dollars_of_a_run_hold_over_its_workers(shared_site: Site) -> None:
    site, cap = shared_site, 0.000_004
    with (
        docs(site.database, dict.fromkeys(TENANTS, (0, 50))),
        ProviderServer() as provider,
    ):
        site.write_settings(provider, repair=f"probe = 0\nmax_cost = {cap:.6f}")
        with site.worker_here(), site.worker_here():
            done = site.repaired()
    counts = done.counts()
    assert 0 < counts["fixed"] < 150
    assert counts["skipped"] == 150 - counts["fixed"]
    assert len(provider.texts) == counts["fixed"]
    (reason,) = done.reasons(Outcome.SKIPPED)
    assert "--max-cost" in reason
    spent = "SELECT sum((tokens + unsaid) * price / 1e6)::float8 FROM embedding_integrity.run"
    assert 0 < rows(site.database, spent)[0][0] <= cap


def test_sweeps_repair_what_fails_anew_within_the_dollars_of_a_day(shared_site: Site) -> None:
    site = shared_site

    def unwritten(context: RunContext | None, run: RepairRun, status: ExitStatus) -> Path | None:  # noqa: ARG001
        return None

    with docs(site.database, {"acme": (3, 2)}) as table, ProviderServer() as provider:
        site.write_settings(provider)
        sweeps = Sweeps(
            settings=site.settings,
            environment={"DATABASE_URL": site.database, **environment(*TENANTS)},
            place=site.place,
            every=timedelta(seconds=1),
            max_cost_per_day=0.000_003,
            report_directory=site.folder / "incidents",
            started_from=site.folder,
            write_incident=unwritten,
        )
        with site.worker_here(sweeps):
            wait_until(lambda: table.wrong() == [])
            table.execute("UPDATE docs SET embedding = NULL WHERE id = 1")
            wait_until(lambda: table.wrong() == [])
            asked = len(provider.texts)
            assert asked == 3
            # About 0.02 dollars per million tokens, of which a text has some ten.
            table.execute(
                "INSERT INTO docs (id, tenant, body)"
                " SELECT n, 'acme', 'document ' || n || ' of acme' FROM generate_series(6, 90) AS n"
            )
            spent = (
                "SELECT coalesce(sum((tokens + unsaid) * price / 1e6), 0)::float8,"
                " count(*) > 3 FROM embedding_integrity.run"
            )
            wait_until(lambda: rows(site.database, spent)[0][1])
        assert 0 < rows(site.database, spent)[0][0] <= 0.000_003
        assert table.wrong() != []


def test_a_key_that_is_refused_costs_each_worker_one_request_at_most(shared_site: Site) -> None:
    site = shared_site
    with (
        docs(site.database, dict.fromkeys(TENANTS, (0, 80))) as table,
        ProviderServer(keys={key_of("acme"), key_of("globex")}) as provider,
    ):
        site.write_settings(provider)
        with site.worker_here(), site.worker_here():
            done = site.repaired()
        assert done.counts() == {"selected": 240, "fixed": 160, "failed": 80}
        assert len({row // 80 for row in (number - 1 for number in table.wrong())}) == 1
        assert sum(request.key == key_of("initech") for request in provider.requests) <= 2
