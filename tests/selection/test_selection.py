"""Reading failing rows: every one once, in key order, whatever its key's type and its values."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from remediation.journal.outcomes import Outcome
from remediation.selection import healthy_rows as healthy
from remediation.selection import row_reader as selection
from remediation.selection.healthy_rows import healthy_rows
from remediation.selection.row_statements import compile_candidates
from tests.drivers.repairs import docs, repaired, settings
from tests.drivers.writers import reading
from tests.servers.provider_server import ProviderServer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from checks.settings.integrity_toml import Settings

HOSTILE = ["%", "%s", "'", "\\", '"', "a'b\\c%(x)s", "Ж", "", " ", "zz", "ZZ", "\n", "10", "9"]


def _settings(columns: list[str], **table: Any) -> Settings:
    entry = {"name": "public.things", "text": "body", "key": columns, **table}
    return settings("http://127.0.0.1:9", tables=[entry], keys={"fallback_env": "PLATFORM"})


KEYS = {
    "integer": ("k", "integer", [str(number) for number in range(-30, 130)]),
    "text": ("k %", "text", HOSTILE),
    "text in the order of its bytes": ("k", 'text COLLATE "C"', HOSTILE),
    "char": ("k", "char(5)", ["a", "ab", "%", "'", "\\", "zz", "9", "10"]),
    "uuid": ("k", "uuid", [f"{number:08x}-0000-4000-8000-00000000000a" for number in range(20)]),
    "numeric": ("k", "numeric(20,10)", ["-1.5", "0", "2", "10", "10.0000000001", "9"]),
    "timestamptz": ("k", "timestamptz", [f"2026-03-29 0{h}:30:00.000001+02" for h in range(9)]),
    "bytea": ("k", "bytea", [r"\x00", r"\x25", r"\x5c", r"\x2500", r"\xff"]),
}


@pytest.mark.parametrize("kind", KEYS)
def test_every_key_is_read_once_page_by_page_and_repaired(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(selection, "PAGE_ROWS", 3)
    monkeypatch.setattr(selection, "FETCH_ROWS", 2)
    name, column_type, values = KEYS[kind]
    with psycopg.connect(database, autocommit=True) as connection, ProviderServer() as server:
        connection.execute(
            f'CREATE TABLE things ("{name}" {column_type} PRIMARY KEY, body text,'
            " embedding vector(8))"
        )
        for value in values:
            connection.execute(
                "INSERT INTO things VALUES"
                f" (%s::{column_type.partition(' COLLATE')[0]}, 'text of ' || %s)",
                (value, repr(value)),
            )
        chosen = _settings([f'"{name}"'])
        with reading(database, chosen, "things") as (reader, link):
            pages = list(reader.pages(link, tenants=None))
            keys = [row.key for page in pages for row in page]
            assert len(keys) == len(set(keys)) == len(values)
            assert len(pages) > 1
            statement = sql.SQL("SELECT {}::text FROM things ORDER BY things.{}").format(
                sql.Identifier(name), sql.Identifier(name)
            )
            with connection.transaction():
                connection.execute("SET LOCAL TimeZone = 'UTC'")
                assert keys == connection.execute(statement).fetchall()
        chosen = chosen.model_copy(update={"provider": settings(server).provider})
        done = repaired(database, chosen, tmp_path, keys={"PLATFORM": "sk-platform-0000"})
        assert [result.account.count(Outcome.FIXED) for result in done.results] == [len(values)]
        assert connection.execute(
            "SELECT count(*) FROM things WHERE embedding IS NULL"
        ).fetchone() == (0,)


def test_a_composite_key_is_paged_in_its_own_order(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "PAGE_ROWS", 4)
    monkeypatch.setattr(selection, "FETCH_ROWS", 4)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE things (a text, b integer, c date, body text, embedding vector(8),"
            " PRIMARY KEY (a, b, c))"
        )
        for a in ("%", "'", "x"):
            for b in (2, 10, -1):
                for c in ("2026-01-02", "2025-12-31"):
                    connection.execute("INSERT INTO things VALUES (%s, %s, %s, 'text')", (a, b, c))
        with reading(database, _settings(["a", "b", "c"]), "things") as (reader, link):
            keys = [row.key for row in reader.failing_rows(link, tenants=None)]
            expected = (
                "SELECT a, b::text, c::text FROM things ORDER BY things.a, things.b, things.c"
            )
            assert keys == connection.execute(expected).fetchall()
            rest = reader.failing_rows(link, tenants=None, after=keys[5], bare=True)
            assert [row.key for row in rest] == keys[6:]


def test_a_row_that_fails_several_checks_is_read_once_with_all_its_reasons(database: str) -> None:
    custom = [
        {"name": "noted", "failing_when": "note LIKE '%!'", "remedy": "re-embed"},
        {"name": "only_told", "failing_when": "note LIKE '%!'", "remedy": "report"},
    ]
    chosen = settings("http://127.0.0.1:9", table={"custom": custom})
    with docs(database, {"acme": (2, 2)}) as table:
        table.execute("UPDATE docs SET note = 'look!' WHERE id IN (2, 3)")
        with reading(database, chosen, "docs") as (reader, link):
            rows = list(reader.failing_rows(link, tenants=None))
    assert [(row.key, row.checks) for row in rows] == [
        (("2",), ("noted",)),
        (("3",), ("completeness", "noted")),
        (("4",), ("completeness",)),
    ]
    assert rows[0].vector is not None
    assert rows[1].vector is None


def test_a_page_ends_by_its_size_even_where_large_texts_follow_small_ones(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "PAGE_BYTES", 100_000)
    monkeypatch.setattr(selection, "FETCH_ROWS", 5)
    with docs(database, {"acme": (0, 200)}) as table:
        table.execute("UPDATE docs SET body = repeat('x', 30000) || id WHERE id > 100")
        with reading(database, settings("http://127.0.0.1:9"), "docs") as (reader, link):
            pages = list(reader.pages(link, tenants=None))
    assert sum(len(page) for page in pages) == 200
    assert all(sum(len(row.text) for row in page) < 100_000 + 5 * 30_004 for page in pages)


@pytest.mark.parametrize("share", [1, 20], ids=["every row fails", "one in twenty fails"])
def test_a_table_is_searched_once_and_each_page_is_found_by_its_keys(
    database: str, monkeypatch: pytest.MonkeyPatch, share: int
) -> None:
    rows = 4_000
    monkeypatch.setattr(selection, "PAGE_ROWS", 500)
    with psycopg.connect(database, autocommit=True) as connection:
        # Its rows do not lie in the order of their keys, and ANALYZE saw them while all were whole.
        connection.execute(
            "CREATE TABLE things (k uuid PRIMARY KEY, n integer, body text, embedding vector(8))"
            " WITH (autovacuum_enabled = false)"
        )
        connection.execute(
            "INSERT INTO things SELECT md5(n::text)::uuid, n, 'text', '[1,2,3,4,5,6,7,8]'"
            " FROM generate_series(1, %s) AS n",
            (rows,),
        )
        connection.execute("ANALYZE things")
        connection.execute("UPDATE things SET embedding = NULL WHERE n %% %s = 0", (share,))
        with reading(database, _settings(["k"]), "things") as (reader, link):
            # A session that has ended counts what it read until it is gone from pg_stat_activity.
            others = "SELECT FROM pg_stat_activity WHERE datname = current_database()"
            wait_until(lambda: connection.execute(others).rowcount == 2)
            connection.execute("SELECT pg_stat_force_next_flush()")
            connection.execute("SELECT pg_stat_reset()")
            pages = list(reader.pages(link, tenants=None))
            link.execute("SELECT pg_stat_force_next_flush()")
        (read,) = connection.execute(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'things'"
        ).fetchone() or (0,)
    failing = rows // share
    assert sum(len(page) for page in pages) == len(reader.selected) == failing
    assert len(pages[0]) == selection.FETCH_ROWS  # no more keeps the first request waiting
    assert len(pages) == 1 + math.ceil((failing - selection.FETCH_ROWS) / 500)
    assert rows + failing <= read <= rows + failing + 50


def test_no_transaction_is_open_while_rows_are_worked_on(database: str) -> None:
    with (
        docs(database, {"acme": (0, 3)}),
        reading(database, settings("http://127.0.0.1:9"), "docs") as (reader, link),
    ):
        for _ in reader.failing_rows(link, tenants=None):
            assert link.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_only_the_selected_tenants_are_read_and_no_tenant_is_none_of_them(database: str) -> None:
    with (
        docs(database, {"acme": (0, 2), "globex": (0, 2), None: (0, 2), "": (0, 1)}),
        reading(database, settings("http://127.0.0.1:9"), "docs") as (reader, link),
    ):
        rows = list(reader.failing_rows(link, tenants=["acme", ""]))
        everyone = list(reader.failing_rows(link, tenants=None))
    assert [row.tenant for row in rows] == ["acme", "acme", ""]
    assert len(everyone) == 7


def test_a_percent_sign_in_the_settings_stands_for_itself(database: str, tmp_path: Path) -> None:
    table_settings = {
        "text": "replace(body, '%', '%%') || '%s'",
        "where": "note NOT LIKE '%(hidden)s%'",
        "tenant": "replace(tenant, '%', '')",
    }
    with docs(database, {"ac%me": (0, 3)}) as table, ProviderServer() as server:
        chosen = settings(server, table=table_settings)
        done = repaired(database, chosen, tmp_path, keys={"KEY_ACME": "sk-acme-Zq7vT2mX"})
        assert done.counts() == {"selected": 3, "fixed": 3}
        assert sorted(server.texts) == [f"document {n} of ac%%me%s" for n in (1, 2, 3)]
        assert table.execute("SELECT count(*) FROM docs WHERE embedding IS NULL") == [(0,)]


def test_rows_are_read_back_in_the_order_of_their_keys(database: str) -> None:
    with (
        docs(database, {"acme": (1, 3)}) as table,
        reading(database, settings("http://127.0.0.1:9"), "docs") as (reader, link),
    ):
        table.execute("UPDATE docs SET hidden = true WHERE id = 2")
        current = reader.read_back(link, [("3",), ("1",), ("2",), ("99",)])
    assert [row.failing if row else None for row in current] == [("completeness",), (), None, None]


@pytest.mark.parametrize("column_type", ["vector", "halfvec", "real[]", "double precision[]"])
def test_healthy_rows_of_another_dimension_or_without_a_direction_are_no_samples(
    database: str, column_type: str
) -> None:
    with docs(database, {"acme": (4, 1), None: (2, 1)}, column_type) as table:
        odd = "{1,2}" if column_type.endswith("[]") else "[1,2]"
        table.execute(f"UPDATE docs SET embedding = '{odd}' WHERE id = 4")
        if column_type.endswith("[]"):
            table.execute("UPDATE docs SET embedding[3] = 'NaN' WHERE id = 3")
            table.execute("UPDATE docs SET embedding[3] = NULL WHERE id = 2")
        checks = {"dimensionality": {"enabled": False}}
        chosen = settings("http://127.0.0.1:9", table={"checks": checks})
        with reading(database, chosen, "docs") as (reader, link):
            rows = list(healthy_rows(link, reader, tenants=["acme", None], per_tenant=9))
    expected = {"document 1 of acme", "document 6 of None", "document 7 of None"}
    if not column_type.endswith("[]"):
        expected |= {"document 2 of acme", "document 3 of acme"}
    assert {row.text for row in rows} == expected
    assert {row.vector.shape for row in rows} == {(8,)}


def test_one_search_finds_the_healthy_rows_of_all_tenants_one_tenant_after_another(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(healthy, "PAGE_ROWS", 2)
    searches: list[object] = []
    compiled = compile_candidates

    def counted(*arguments: Any, **options: Any) -> sql.Composed:
        searches.append(options["tenants"])
        return compiled(*arguments, **options)

    monkeypatch.setattr(healthy, "compile_candidates", counted)
    names = ["a", "B", "b", "A", "é", None]
    with (
        docs(database, dict.fromkeys(names, (5, 1))),
        reading(database, settings("http://127.0.0.1:9"), "docs") as (reader, link),
    ):
        rows = healthy_rows(link, reader, tenants=names, per_tenant=3)
        runs = [(tenant, len(list(of))) for tenant, of in groupby(rows, lambda r: r.tenant)]
    assert dict(runs) == dict.fromkeys(names, 3)
    assert len(runs) == len(names)
    assert searches == [names]
