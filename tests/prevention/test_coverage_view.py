"""The view `embedding_integrity` says what the checks say, to each role what it may see."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from checks.database.connection import connect
from checks.database.connection_url import parse_url
from checks.database.server import read_server
from remediation.prevention.coverage_view import create_view
from tests.builders.tables import HOSTILE_TENANTS, examined, role, rows, run, settings, table
from tests.drivers.migrations import migrated

if TYPE_CHECKING:
    import psycopg

CHUNKS = {"name": "chunks", "key": ["doc"], "text": "piece"}


def test_the_view_counts_what_the_checks_count(each_database: str) -> None:
    fill(each_database)
    tables = (
        table(
            tenant="tenant",
            where="NOT archived",
            created_at="created_at",
            grace="1 hour",
            content_hash="hash",
        ),
        table("plain"),
        table("texts", tenant="tenant", store=CHUNKS),
    )
    migrated(each_database, settings(*tables), schema="dash")
    checked = {
        (m.segment.table, m.segment.tenant): (
            m.rows,
            m.failing["completeness"],
            m.pending,
            m.failing.get("freshness"),
        )
        for examination in examined(each_database, *tables).tables
        for m in examination.measurements
    }
    shown = rows(
        each_database,
        "SELECT table_name, tenant, rows, missing, pending, stale, share"
        " FROM dash.embedding_integrity",
    )
    assert {(name, tenant): tuple(counts) for name, tenant, *counts, _ in shown} == checked
    assert len(checked) == len(HOSTILE_TENANTS) + 1 + 1 + 2
    assert any(missing for _, missing, _, _ in checked.values())
    assert any(pending for _, _, pending, _ in checked.values())
    assert any(stale for *_, stale in checked.values())
    for _, _, counted, missing, *_, share in shown:
        assert (share == 1) == (missing == 0)
        assert abs(share - Decimal(counted - missing) / counted) < Decimal("0.000001")


def fill(url: str) -> None:
    """Rows of every kind for hostile tenants, a table without any, and a store of chunks."""
    with connect(parse_url(url, variable="DATABASE_URL")) as connection:
        connection.execute(
            "CREATE SCHEMA dash;"
            "CREATE TABLE docs (id serial PRIMARY KEY, tenant text, body text, hash text,"
            " created_at timestamptz, archived bool DEFAULT false, embedding vector(3));"
            "CREATE TABLE plain (id int, body text, embedding real[]);"
            "INSERT INTO plain VALUES (1, 'a', '{1,2,3}'), (2, 'b', NULL);"
            "CREATE TABLE texts (id int PRIMARY KEY, tenant text, body text);"
            "CREATE TABLE chunks (doc int, piece text, embedding vector(3));"
            "INSERT INTO texts VALUES (1, 'a', 'x'), (2, 'a', 'y'), (3, 'b', 'z');"
            "INSERT INTO chunks VALUES (1, 'p', '[1,2,3]'), (1, 'q', NULL), (3, 'r', NULL)"
        )
        for number, tenant in enumerate((*HOSTILE_TENANTS, None)):
            connection.execute(
                "INSERT INTO docs (tenant, body, hash, created_at, archived, embedding)"
                " SELECT %s, CASE WHEN n %% 5 = 0 THEN ' ' ELSE 'text ' || n END,"
                "  md5('text ' || n), now() - n * interval '15 minutes', n %% 4 = 0,"
                "  CASE WHEN n %% 3 = 0 THEN NULL ELSE '[1,2,3]'::vector END"
                " FROM generate_series(1, %s) AS n",
                (tenant, 10 + number),
            )
        connection.execute("UPDATE docs SET body = body || '!' WHERE id % 7 = 0")


def test_the_view_shows_each_role_the_rows_of_its_policies(database: str) -> None:
    run(
        database,
        "CREATE TABLE docs (id int PRIMARY KEY, tenant text, body text, embedding vector(3))",
        "INSERT INTO docs VALUES (1, 'acme', 'x', NULL), (2, 'globex', 'y', NULL)",
        "ALTER TABLE docs ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY own ON docs USING (tenant = 'acme')",
    )
    migrated(database, settings(table(tenant="tenant")))
    with role(database, "dashboard") as url:
        run(database, "GRANT SELECT ON docs, embedding_integrity TO dashboard")
        assert rows(url, "SELECT tenant FROM embedding_integrity") == [("acme",)]


def test_before_postgresql_15_the_view_is_made_without_the_option(database: str) -> None:
    with connect(parse_url(database, variable="DATABASE_URL")) as connection:
        old = replace(read_server(connection), version_number=140018)
    assert "security_invoker" not in text(create_view((), "public", old))
    assert "security_invoker" in text(
        create_view((), "public", replace(old, version_number=150000))
    )


def text(statements: tuple[psycopg.sql.Composable, ...]) -> str:
    return ";".join(statement.as_string(None) for statement in statements)


def test_a_grace_that_passes_turns_pending_rows_into_missing_ones(database: str) -> None:
    run(
        database,
        "CREATE TABLE docs (id int PRIMARY KEY, body text, made timestamptz, embedding vector(3))",
        "INSERT INTO docs VALUES (1, 'x', now(), NULL)",
    )
    migrated(database, settings(table(created_at="made", grace="1 hour")))
    counted = "SELECT missing, pending, share FROM embedding_integrity"
    assert rows(database, counted) == [(0, 1, 1)]
    later = timedelta(hours=2)
    run(database, f"UPDATE docs SET made = made - interval '{later.seconds} seconds'")
    assert rows(database, counted) == [(1, 0, 0)]
