"""Checks that tables are scanned side by side, and that an interrupt ends all of their scans."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest

from checks.database.connection_url import parse_url
from checks.examination.examination import examine
from checks.examination.selection import Selection
from tests.builders.tables import failing, role, run, settings, table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from checks.examination.examination import Examination

NAMES = ("first", "second")
TABLE = "CREATE TABLE {name} (id int PRIMARY KEY, body text, embedding vector(3))"
ROW = "INSERT INTO {name} VALUES (1, 'text', '[1,2,3]')"
MEET = """
CREATE FUNCTION meets_another() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7);
    FOR i IN 1..{tries} LOOP
        IF (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7) > 1 THEN
            -- Long enough for the other one to see it as well.
            PERFORM pg_sleep(0.3);
            RETURN true;
        END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN false;
END $$
"""


def build(url: str, *more: str) -> None:
    run(url, *(one.format(name=name) for name in NAMES for one in (TABLE, ROW)), *more)


def examined(url: str, failing_when: str, *, side_by_side: int) -> Examination:
    custom = [{"name": "own", "failing_when": failing_when}]
    chosen = settings(*(table(f"public.{name}", custom=custom) for name in NAMES))
    database = chosen.database.model_copy(update={"scan_concurrency": side_by_side})
    chosen = chosen.model_copy(update={"database": database})
    return examine(parse_url(url, variable="DATABASE_URL"), chosen, Selection())


def test_two_tables_are_scanned_at_the_same_time(database: str) -> None:
    build(database, MEET.format(tries=1_000))

    assert failing(examined(database, "NOT meets_another()", side_by_side=2), "own") == {}


def test_a_concurrency_of_one_scans_one_table_after_the_other(database: str) -> None:
    build(database, MEET.format(tries=20))

    alone = examined(database, "NOT meets_another()", side_by_side=1)

    assert [finding.table for finding in alone.findings] == ["public.first", "public.second"]


def test_a_role_with_one_connection_scans_all_the_same(database: str) -> None:
    build(database)
    with role(database, "narrow") as url:
        run(
            database,
            "ALTER ROLE narrow CONNECTION LIMIT 1",
            "GRANT SELECT ON first, second TO narrow",
        )
        seen = examined(url, "id = 1", side_by_side=4)

    assert [finding.table for finding in seen.findings] == ["public.first", "public.second"]
    assert all(one.error is None for one in seen.tables)


def test_an_interrupt_ends_every_scan_at_once(database: str) -> None:
    build(database)
    asleep = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event = 'PgSleep'"
    )
    with psycopg.connect(database, autocommit=True) as watching:

        def under_way(many: int) -> bool:
            return watching.execute(asleep).fetchone() == (many,)

        def interrupt() -> None:
            wait_until(lambda: under_way(2))
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            examined(database, "pg_sleep(600)::text IS NULL", side_by_side=2)
        thread.join()
        wait_until(lambda: under_way(0))
