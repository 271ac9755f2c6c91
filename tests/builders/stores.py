"""A table of insights and the simplest store of its embeddings, for the tests of both."""

from __future__ import annotations

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
