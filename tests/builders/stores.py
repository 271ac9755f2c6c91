"""A table of insights, the simplest store of its embeddings, and a store of many columns."""

from __future__ import annotations

import psycopg

from tests.builders.tables import run
from tests.servers.provider_server import vector_of

INSIGHTS = """
CREATE TABLE insights (
    id integer PRIMARY KEY, tenant text, body text, kind text DEFAULT 'theirs',
    updated_at timestamptz DEFAULT '2026-01-01'
)
"""
STORE = """
CREATE TABLE insight_embeddings (
    insight_id integer PRIMARY KEY, embedding vector(3), kind text NOT NULL DEFAULT 'summary'
)
"""
DECLARED = {"name": "insight_embeddings", "key": ["insight_id"]}
"""The simplest store: one row to a key."""

WIDE = """
CREATE TABLE insight_embeddings (
    insight_id integer UNIQUE REFERENCES insights ON DELETE CASCADE, embedding vector(8),
    kind text NOT NULL, owner text NOT NULL, content text, model text, embedded_at timestamptz,
    content_hash text, note text DEFAULT 'by default'
)
"""
WHOLE_STORE = {
    **DECLARED,
    "text": "content",
    "model_column": "model",
    "embedded_at": "embedded_at",
    "content_hash": "content_hash",
    "insert": {"kind": "'summary'", "owner": "upper(tenant)"},
}
WIDE_DECLARED = {
    "name": "insights",
    "tenant": "tenant",
    "text": "body",
    "updated_at": "updated_at",
    "store": WHOLE_STORE,
}
"""A store of all that may be declared of one."""

THEIRS = "'[1,0,0,0,0,0,0,0]'"
COLUMNS = "insight_id, kind, owner, content, model, embedded_at, content_hash, embedding"
BY_SOMEONE = (
    f"INSERT INTO insight_embeddings ({COLUMNS}) SELECT id, 'k', 'o', body,"
    " 'text-embedding-3-small', now(), md5(body), {} FROM insights WHERE id = {}"
)
"""A row of the wide store by another session: its vector and its number are left open."""


def wide(url: str) -> None:
    """Rows 1 to 8: 1 whole, 2 not tagged, 3 stale, 4 with a NULL vector, 5 to 8 without a row."""
    run(
        url,
        INSIGHTS,
        WIDE,
        "INSERT INTO insights (id, tenant, body)"
        " SELECT n, CASE WHEN n < 7 THEN 'acme' ELSE 'globex' END, 'text ' || n"
        " FROM generate_series(1, 8) AS n",
    )
    with psycopg.connect(url, autocommit=True) as connection:
        for number in (1, 2, 3, 4):
            text = f"text {number}"
            connection.execute(
                "INSERT INTO insight_embeddings"
                " (insight_id, embedding, kind, owner, content, model, embedded_at, content_hash)"
                " VALUES (%s, %s::text::vector, 'old', 'ACME', %s, %s, '2026-02-01', md5(%s))",
                (
                    number,
                    None if number == 4 else str(vector_of(text).tolist()),
                    text,
                    "" if number == 2 else "text-embedding-3-small",
                    text,
                ),
            )
    run(url, "UPDATE insights SET body = 'text 3, edited' WHERE id = 3")
