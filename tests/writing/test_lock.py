"""One repair per table at a time, wherever it runs."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from checks.database.connection_url import parse_url
from remediation.writing import repair_lock
from remediation.writing.repair_lock import LockLostError, RepairLock, TableLockedError
from tests.drivers.repairs import docs, examined, settings
from tests.faults.link import Link, black_hole
from tests.faults.wire import Step

if TYPE_CHECKING:
    from checks.database.connection import ConnectionTarget
    from checks.targets.target import Target

HELD = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"


def _place(url: str) -> ConnectionTarget:
    return parse_url(url, variable="DATABASE_URL")


def _target(url: str, table: str = "docs") -> Target:
    entry = {"name": table, "tenant": "tenant", "text": "body"}
    return examined(url, settings("http://127.0.0.1:9", tables=[entry]), table).target


def test_a_second_repair_of_a_table_is_refused_with_the_name_of_the_first(database: str) -> None:
    with docs(database, {"acme": (1, 1)}):
        target, place = _target(database), _place(database)
        second = RepairLock(place, target, run_id="run-2")
        with (
            RepairLock(place, target, run_id="run-1"),
            pytest.raises(TableLockedError) as caught,
        ):
            second.__enter__()
        said = str(caught.value)
        assert f"embedding-integrity run-1 {socket.gethostname()}"[:63] in said
        assert said.startswith("public.docs is being repaired by ")
        assert "pg_terminate_backend" in said


def test_another_table_is_free(database: str) -> None:
    with docs(database, {"acme": (1, 1)}) as table:
        table.execute("CREATE TABLE more (LIKE docs INCLUDING ALL)")
        place = _place(database)
        with (
            RepairLock(place, _target(database), run_id="1"),
            RepairLock(place, _target(database, "more"), run_id="2") as second,
        ):
            second.check()
            assert len(table.execute(HELD)) == 2


def test_a_link_that_falls_silent_while_the_lock_is_taken_is_not_waited_for(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair_lock, "ANSWER_SECONDS", 1.0)
    with docs(database, {"acme": (1, 1)}), Link(database) as link:
        target = _target(database)
        # Nobody ends such a connection but we.
        link.when(Step.LOCK_SENT, black_hole(600.0))
        with pytest.raises(psycopg.OperationalError):
            RepairLock(_place(link.url), target, run_id="1").__enter__()
        assert link.fired == [Step.LOCK_SENT]


def test_the_lock_ends_with_its_block_and_with_an_error_in_it(database: str) -> None:
    with docs(database, {"acme": (1, 1)}) as table:
        target, place = _target(database), _place(database)
        with contextlib.suppress(KeyError), RepairLock(place, target, run_id="1"):
            assert len(table.execute(HELD)) == 1
            raise KeyError
        # The server lets go when it has seen the connection end.
        for _ in range(300):
            if not table.execute(HELD):
                break
            time.sleep(0.1)
        assert table.execute(HELD) == []
        with RepairLock(place, target, run_id="2") as held:
            held.check()
        with pytest.raises(LockLostError):
            held.check()


def test_a_lock_whose_connection_was_ended_is_lost_and_free_for_others(database: str) -> None:
    with docs(database, {"acme": (1, 1)}) as table:
        target, place = _target(database), _place(database)
        with RepairLock(place, target, run_id="1") as held:
            held.check()
            ((holder,),) = table.execute(HELD)
            assert table.execute("SELECT pg_terminate_backend(%s, 5000)", (holder,)) == [(True,)]
            with pytest.raises(LockLostError, match=r"held the lock of public\.docs was lost"):
                held.check()
            with RepairLock(place, target, run_id="2") as other:
                other.check()


def test_the_lock_holds_no_snapshot_and_outlives_the_servers_timeouts(database: str) -> None:
    with docs(database, {"acme": (1, 1)}) as table:
        name = database.rpartition("/")[2].partition("?")[0]
        for limit in ("idle_in_transaction_session_timeout", "transaction_timeout"):
            table.execute(f"ALTER DATABASE {name} SET {limit} = '100ms'")
        with RepairLock(_place(database), _target(database), run_id="1") as held:
            ((holder,),) = table.execute(HELD)
            state = "SELECT backend_xmin, backend_xid FROM pg_stat_activity WHERE pid = %s"
            assert table.execute(state, (holder,)) == [(None, None)]
            with psycopg.connect(database, autocommit=True) as other:
                other.execute("SET transaction_timeout = 0")
                other.execute("SELECT pg_sleep(0.3)")
            held.check()


FAMILY = """
CREATE TABLE parts (id int, tenant text, body text, embedding vector(8), PRIMARY KEY (id))
    PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE part_2 PARTITION OF parts FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (id);
CREATE TABLE part_2_1 PARTITION OF part_2 FOR VALUES FROM (100) TO (150);
CREATE TABLE lone (id int NOT NULL PRIMARY KEY, tenant text, body text, embedding vector(8));
CREATE TABLE mother (id int PRIMARY KEY, tenant text, body text, embedding vector(8));
CREATE TABLE father (LIKE mother INCLUDING ALL);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (mother, father);
CREATE TABLE own (id int PRIMARY KEY, tenant text, body text);
CREATE VIEW seen AS SELECT * FROM own;
CREATE TABLE kept (id int PRIMARY KEY, embedding vector(8))
"""
STORE = {"name": "kept", "key": ["id"], "embedding": "embedding"}


def _member(url: str, name: str) -> Target:
    entry: dict[str, object] = {"name": name, "tenant": "tenant", "text": "body"}
    if name in ("own", "seen"):
        entry |= {"key": ["id"], "store": STORE}
    return examined(url, settings("http://127.0.0.1:9", tables=[entry]), name).target


@pytest.mark.parametrize(
    ("first", "second", "free"),
    [
        ("parts", "part_1", False),
        ("part_1", "parts", False),
        ("parts", "part_2_1", False),
        ("part_2_1", "part_2", False),
        ("part_1", "part_2_1", True),
        ("mother", "child", False),
        ("mother", "father", False),
        ("child", "father", False),
        ("own", "seen", False),
        ("own", "parts", True),
    ],
)
def test_rows_are_locked_by_whatever_name_they_are_reached(
    database: str, first: str, second: str, free: bool
) -> None:
    place = _place(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(FAMILY)
    with RepairLock(place, _member(database, first), run_id="1"):
        other = RepairLock(place, _member(database, second), run_id="2")
        if free:
            with other:
                other.check()
        else:
            with pytest.raises(TableLockedError, match=r"'embedding-integrity 1 .*backend \d+"):
                other.__enter__()


def test_a_part_that_was_locked_before_it_was_one_is_not_written_twice(database: str) -> None:
    place = _place(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(FAMILY)
        with RepairLock(place, _member(database, "lone"), run_id="1"):
            connection.execute(
                "ALTER TABLE parts ATTACH PARTITION lone FOR VALUES FROM (200) TO (300)"
            )
            with pytest.raises(TableLockedError, match="embedding-integrity 1 "):
                RepairLock(place, _member(database, "parts"), run_id="2").__enter__()
