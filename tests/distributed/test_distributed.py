"""A repair by several worker processes: the same invariants as by one, whoever dies."""

from __future__ import annotations

import json
import signal
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

from checks.database.connection import connect
from checks.database.server import read_server
from remediation.journal.past_throughput import look_back
from tests.builders.tables import rows
from tests.drivers.repairs import docs, key_of, meanwhile
from tests.drivers.workers import SECONDS, TENANTS, Site
from tests.servers.provider_server import ProviderServer, Reply

if TYPE_CHECKING:
    import threading


def test_three_workers_repair_every_row_once_though_one_is_killed_and_one_ends_midway(
    shared_site: Site,
) -> None:
    site = shared_site
    with (
        docs(site.database, dict.fromkeys(TENANTS, (0, 70))) as table,
        ProviderServer(keys={key_of(tenant) for tenant in TENANTS}) as provider,
        ExitStack() as stack,
    ):
        provider.always(Reply(pause=0.05))
        site.write_settings(provider)
        workers = stack.enter_context(site.workers(3))

        def kill(stop: threading.Event) -> None:  # noqa: ARG001
            provider.wait_for_requests(10)
            workers[0].send_signal(signal.SIGKILL)
            workers[1].send_signal(signal.SIGTERM)
            assert workers[1].wait(SECONDS) == 0

        with meanwhile(kill):
            done = site.repaired()
        assert done.counts() == {"selected": 210, "fixed": 210}, done.docs.account.groups
        assert done.docs.stopped is None
        assert table.wrong() == []
        for request in provider.requests:
            for text in request.texts:
                assert request.key == key_of(text.rpartition(" ")[2])
        # What was in flight or not yet written when it was killed is paid for twice, no more.
        twice = [text for text, times in Counter(provider.texts).items() if times > 1]
        assert len(twice) <= 20
        assert max(Counter(provider.texts).values()) <= 2
        assert done.docs.usage.requests >= 40
        # The next plan's time rests on what the jobs that were ended took.
        took = done.docs.throughput
        assert took is not None
        assert 30 <= took.requests <= done.docs.usage.requests
        assert took.request_seconds >= took.requests * 0.05
        assert 150 <= took.rows <= 210
        # The journal has the whole story, and nothing is left in the schema.
        assert done.folder is not None
        with connect(site.place) as connection:
            past = look_back(done.folder.parent, read_server(connection).identity)
        assert past.runs == ((done.folder.name, took),)
        lines = (done.folder / "journal.jsonl").read_text().splitlines()
        outcomes = [event for event in map(json.loads, lines) if event["event"] == "outcome"]
        assert {tuple(event["key"]) for event in outcomes if event["outcome"] == "fixed"} == {
            (str(number),) for number in range(1, 211)
        }
        for left in ("journal", "work", "part", "procrastinate_jobs"):
            assert rows(site.database, f"SELECT count(*) FROM embedding_integrity.{left}") == [(0,)]
        workers[2].send_signal(signal.SIGTERM)
        assert workers[2].wait(SECONDS) == 0
