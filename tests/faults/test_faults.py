"""The tools of the fault suite: what the link does to a session, and what the provider tells."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.faults.link import Fate, Link, Toward, black_hole, cut, delay, half
from tests.faults.provider import Provider
from tests.faults.watch import Clients, Watch, named
from tests.faults.wire import Step
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.faults.link import Action, Moment

UPDATE = "UPDATE t SET n = n + 1"


@pytest.fixture
def table(database: str) -> str:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS n")
    return database


def number(url: str) -> int:
    with psycopg.connect(url) as connection:
        ((found,),) = connection.execute("SELECT n FROM t")
    return int(found)


def update(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection, connection.transaction():
        connection.execute(UPDATE)


def test_a_link_without_rules_passes_everything_and_names_the_steps(table: str) -> None:
    with Link(table) as link:
        update(link.url)
        assert list(link.seen) == [
            Step.UPDATE_SENT,
            Step.UPDATED,
            Step.COMMIT_SENT,
            Step.COMMITTED,
        ]
        assert link.fired == []
    assert number(table) == 2


@pytest.mark.parametrize(
    "action", [cut, half, black_hole(0.3), black_hole(0.3, Toward.SERVER)], ids=range(4)
)
@pytest.mark.parametrize("step", [Step.UPDATE_SENT, Step.COMMIT_SENT])
def test_what_the_server_never_got_is_not_done(table: str, action: Action, step: Step) -> None:
    with Link(table) as link:
        link.when(step, action)
        with pytest.raises(psycopg.OperationalError):
            update(link.url)
        assert link.fired == [step]
    assert number(table) == 1


@pytest.mark.parametrize(
    "action", [cut, half, black_hole(0.3), black_hole(0.3, Toward.CLIENT)], ids=range(4)
)
def test_what_was_committed_stays_done_though_nobody_hears_of_it(
    table: str, action: Action
) -> None:
    with Link(table) as link:
        link.when(Step.COMMITTED, action)
        with pytest.raises(psycopg.OperationalError):
            update(link.url)
    assert number(table) == 2


def test_a_rule_acts_at_the_nth_time_alone_and_a_delay_loses_nothing(table: str) -> None:
    with Link(table) as link:
        link.when(Step.COMMITTED, delay(0.05), nth=2)
        link.when(Step.COMMITTED, cut, nth=3)
        update(link.url)
        assert link.fired == []
        update(link.url)
        assert link.fired == [Step.COMMITTED]
        with pytest.raises(psycopg.OperationalError):
            update(link.url)
        update(link.url)
    assert number(table) == 5


def test_what_an_action_raises_is_raised_at_the_end(table: str) -> None:
    def wrong(_: Moment) -> Fate:
        raise ValueError("an action that fails")

    def disturbed() -> None:
        with Link(table) as link:
            link.when(Step.UPDATE_SENT, wrong)
            with pytest.raises(psycopg.OperationalError):
                update(link.url)

    with pytest.raises(ValueError, match="an action that fails"):
        disturbed()
    assert number(table) == 1


def ask(provider: Provider, key: str, *texts: str) -> int:
    """The status of one request."""
    port = urlsplit(provider.base_url).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        body = json.dumps({"input": texts, "model": "text-embedding-3-small"})
        connection.request("POST", "/v1/embeddings", body, {"Authorization": f"Bearer {key}"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_provider_answers_by_its_script_and_tells_each_text_with_its_key() -> None:
    with Provider(seed=1) as provider:
        seen: list[int] = []
        provider.script(None, "503", "shuffled")
        provider.when(2, lambda received: seen.append(received.number))
        provider.trouble_for("sk-dead", "401")
        statuses = [ask(provider, "sk-1", f"text {number}") for number in range(4)]
        statuses.append(ask(provider, "sk-dead", "more"))
    assert statuses == [200, 503, 200, 200, 401]
    assert seen == [2]
    assert [(r.key, r.texts, r.fault, r.paid) for r in provider.received] == [
        ("sk-1", ("text 0",), None, True),
        ("sk-1", ("text 1",), "503", False),
        ("sk-1", ("text 2",), "shuffled", True),
        ("sk-1", ("text 3",), None, True),
        ("sk-dead", ("more",), "401", False),
    ]


def test_a_watch_tells_of_locks_idle_transactions_and_snapshots(table: str) -> None:
    with (
        Watch(table) as watch,
        psycopg.connect(named(table)) as ours,
        psycopg.connect(table, autocommit=True) as other,
    ):
        ours.execute(UPDATE)
        other.execute("SET lock_timeout = '400ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(UPDATE)
        ours.rollback()
        other.execute("BEGIN")
        other.execute("LOCK TABLE t")
        ours.execute("SET LOCAL lock_timeout = '400ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            ours.execute(UPDATE)
    assert {words.partition(" for ")[0] for words in watch.over(snapshots=0.1, others=0.1)} == {
        "others waited",
        "we waited",
        "a transaction of ours was idle",
        "a snapshot of ours was held",
    }
    assert watch.over(snapshots=60.0, others=60.0) == []


def test_a_watch_takes_an_applications_own_sessions_and_an_idle_lock_for_no_fault(
    table: str,
) -> None:
    with (
        psycopg.connect(table) as application,
        psycopg.connect(named(table)) as ours,
        Watch(table) as watch,
    ):
        application.execute(UPDATE)
        ours.execute("SELECT pg_advisory_xact_lock(1)")
        wait_until(lambda: watch.looks > 10)
    assert watch.sessions == 1
    assert watch.over(snapshots=0.0, others=0.0) == []


def test_an_applications_clients_hold_rows_and_change_none(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE docs AS SELECT id FROM generate_series(1, 200) AS id")
        before = connection.execute("SELECT id, ctid FROM docs ORDER BY id").fetchall()
        with Clients(database, seed=1, number=2, hold=0.01) as clients:
            wait_until(lambda: clients.transactions > 5)
        assert connection.execute("SELECT id, ctid FROM docs ORDER BY id").fetchall() == before
