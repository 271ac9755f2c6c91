"""The session is ours: what a role, a database or PG* has set changes nothing of the main job."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from checks.database.connection import connect, read_only
from checks.database.connection_url import parse_url
from checks.database.open_sockets import open_sockets
from checks.database.session import SETTINGS
from checks.discovery.survey import survey
from remediation.distributed.shared.schema import own_session
from tests.builders.tables import role, rows, run
from tests.drivers.repairs import environment, repaired, settings
from tests.drivers.rollbacks import rolled_back, run_of, server
from tests.servers.provider_server import ProviderServer, Reply

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["server"]

KEYS = environment("acme")
MINUTE = timedelta(minutes=1)

HOSTILE = {
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Australia/Lord_Howe",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "array_nulls": "off",
    "client_encoding": "SQL_ASCII",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "gin_fuzzy_search_limit": "1",
    "search_path": "nowhere",
    "statement_timeout": "150ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "150ms",
    "transaction_timeout": "150ms",
    "idle_session_timeout": "300ms",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "row_security": "off",
    "lc_numeric": "C",
    "xmlbinary": "hex",
}
"""What may be set by a role without a privilege, each to what would hurt most."""

TABLE = """
CREATE TABLE public.docs (
    part       double precision,
    at         timestamptz,
    bits       bytea,
    tenant     text,
    body       text,
    changed    timestamptz,
    embedded   timestamp(3),
    digest     text,
    model      text,
    embedding  vector(8),
    PRIMARY KEY (part, at, bits)
);
INSERT INTO public.docs (part, at, bits, tenant, body, changed)
SELECT n * 0.1 + 1e-13, '2026-03-01 12:00+00'::timestamptz + n * interval '1 hour 1 microsecond',
       decode(lpad(to_hex(n * 7919), 8, '0') || '5c00ff', 'hex'), 'acme', 'text žlutý 漢字 ' || n,
       '2026-01-02 03:04:05.678901+00'
FROM generate_series(1, 40) AS n
"""
ENTRY: dict[str, Any] = {
    "name": "public.docs",
    "tenant": "tenant",
    "text": "body",
    # Slower than a statement may be.
    "where": "changed < now() - interval '1 day' AND pg_sleep(0.005) IS NOT NULL",
    "created_at": "at",
    "updated_at": "changed",
    "embedded_at": "embedded",
    "content_hash": "digest",
    "model_column": "model",
}
STATE = "SELECT docs::text FROM public.docs ORDER BY part, at, bits"


def _main_job(url: str, admin: str, server: ProviderServer, folder: Path) -> None:
    """Checks, repair, the checks again, rollback; all rows repaired, then all as they were."""
    before = rows(admin, STATE)
    # Slower than the session may be idle.
    server.always(Reply(pause=0.4))
    chosen = settings(server, tables=[ENTRY], provider={"concurrency": 2})
    done = repaired(url, chosen, folder, keys=KEYS)
    assert done.counts() == {"selected": 40, "fixed": 40}
    assert done.after is not None
    assert [finding.says for finding in done.after.findings] == []
    assert all(row[0] for row in rows(admin, "SELECT embedding IS NOT NULL FROM public.docs"))
    undone = rolled_back(url, chosen, folder, run_of(done))
    assert undone.counts() == {"selected": 40, "restored": 40}
    assert rows(admin, STATE) == before


def _repairer(admin: str, name: str) -> None:
    run(admin, f"GRANT SELECT, UPDATE ON public.docs TO {name}")


def _set(admin: str, what: str, chosen: dict[str, str]) -> None:
    for name, value in chosen.items():
        statement = sql.SQL("ALTER {} SET {} = {}").format(
            sql.SQL(what), sql.Identifier(name), sql.Literal(value)
        )
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute("SET idle_session_timeout = 0; SET transaction_timeout = 0")
            connection.execute(statement)


def test_no_setting_of_a_role_changes_the_main_job(
    database: str, server: ProviderServer, tmp_path: Path
) -> None:
    run(database, TABLE)
    with role(database, "hostile_role") as url:
        _repairer(database, "hostile_role")
        _set(database, "ROLE hostile_role", HOSTILE)
        _main_job(url, database, server, tmp_path)
        assert 'name = "public.docs"' in survey(parse_url(url, variable="DATABASE_URL")).text


@pytest.mark.thorough
@pytest.mark.parametrize("name", HOSTILE)
def test_nor_does_any_one_of_them_by_itself(
    database: str, server: ProviderServer, tmp_path: Path, name: str
) -> None:
    run(database, TABLE)
    with role(database, "hostile_one") as url:
        _repairer(database, "hostile_one")
        _set(database, "ROLE hostile_one", {name: HOSTILE[name]})
        _main_job(url, database, server, tmp_path)


def test_nor_does_what_the_environment_and_the_database_set(
    database: str, server: ProviderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(database, TABLE)
    name = database.rpartition("/")[2].partition("?")[0]
    with role(database, "hostile_env") as url:
        _repairer(database, "hostile_env")
        run(database, f"ALTER DATABASE {name} SET DateStyle = 'SQL, DMY'")
        with monkeypatch.context() as patch:
            patch.setenv("PGCLIENTENCODING", "LATIN1")
            patch.setenv("PGDATESTYLE", "Postgres, DMY")
            patch.setenv("PGTZ", "America/St_Johns")
            patch.setenv("PGOPTIONS", "-c bytea_output=escape -c extra_float_digits=-7")
            # The test's own look at the table goes through libpq as well.
            _main_job(url, f"{database}?client_encoding=UTF8", server, tmp_path)


def test_what_machines_share_is_reached_under_the_same_settings(database: str) -> None:
    with role(database, "hostile_shared") as url:
        _set(database, "ROLE hostile_shared", {**HOSTILE, "transaction_timeout": "0"})
        place = own_session(parse_url(url, variable="DATABASE_URL"))
        with connect(place) as connection:
            for name, value in SETTINGS.items():
                assert connection.execute("SELECT current_setting(%s)", (name,)).fetchall() == [
                    (value,)
                ]
            assert connection.execute("SHOW transaction_read_only").fetchall() == [("off",)]
            assert connection.execute("SHOW search_path").fetchall() == [("embedding_integrity",)]


def test_every_transaction_has_them_all_in_one_round_trip(database: str) -> None:
    place = parse_url(database, variable="DATABASE_URL")
    with connect(place) as connection:
        with read_only(connection, place, statement_timeout=MINUTE):
            (shown,) = connection.execute("SHOW search_path").fetchall()
        assert shown == ('pg_catalog, "$user", public, pg_temp',)
        for session, expected in (
            ("''", 'pg_catalog, "", pg_temp'),
            ("public, pg_catalog", "pg_catalog, public, pg_catalog, pg_temp"),
        ):
            connection.execute(f"SET search_path = {session}")
            with read_only(connection, place, statement_timeout=MINUTE):
                assert connection.execute("SHOW search_path").fetchall() == [(expected,)]
            # It ends with the transaction: a pooler hands the session to somebody else.
            assert connection.execute("SHOW search_path").fetchall() != [(expected,)]


def test_a_reading_connection_that_the_server_ended_is_opened_again(database: str) -> None:
    place = parse_url(database, variable="DATABASE_URL")
    with connect(place) as connection:
        for _ in range(2):
            with read_only(connection, place, statement_timeout=MINUTE):
                ((backend,),) = connection.execute("SELECT pg_backend_pid()").fetchall()
            rows(database, f"SELECT pg_terminate_backend({backend}, 5000)")
        with read_only(connection, place, statement_timeout=MINUTE):
            assert connection.execute("SELECT 'ž'").fetchall() == [("ž",)]


def test_but_not_in_the_midst_of_a_transaction_nor_where_we_cut_it(database: str) -> None:
    place = parse_url(database, variable="DATABASE_URL")
    with connect(place) as connection:
        transaction = read_only(connection, place, statement_timeout=MINUTE)
        with contextlib.suppress(psycopg.OperationalError), transaction:
            ((backend,),) = connection.execute("SELECT pg_backend_pid()").fetchall()
            rows(database, f"SELECT pg_terminate_backend({backend}, 5000)")
            connection.execute("SELECT 1")
            raise AssertionError("it was opened again")
    with connect(place) as connection:
        open_sockets.cut_one(connection)
        with (
            pytest.raises(psycopg.OperationalError),
            read_only(connection, place, statement_timeout=MINUTE),
        ):
            raise AssertionError("it was opened again")
