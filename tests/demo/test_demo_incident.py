"""The incident is what its constants say, and hides the answer that the demo asks for."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psycopg
import pytest
from pgvector.psycopg import register_vector

from demo import incident
from demo.embedding import embed
from demo.postgres import create_database, server
from demo.search import best_answers, render
from demo.texts import documentation

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def connection() -> Iterator[psycopg.Connection]:
    with server() as url, psycopg.connect(create_database(url, "incident")) as connection:
        incident.build(connection, now=NOW)
        yield connection


def counts(connection: psycopg.Connection, condition: str, table: str) -> dict[str, int]:
    query = f'SELECT "tenantId", count(*) FROM {table} WHERE {condition} GROUP BY 1'
    return dict(connection.execute(query.encode()).fetchall())


LIVE = """"deletedAt" IS NULL AND concat_ws('', title, body) ~ '\\S'"""


def test_the_standard_library_gives_enough_real_texts_in_a_stable_order() -> None:
    texts = documentation()
    assert len(texts) >= 6000
    names = [text.name for text in texts]
    assert names == sorted(set(names))
    assert all(text.docstring.strip() for text in texts)


def test_every_tenant_has_the_rows_it_should_have(connection: psycopg.Connection) -> None:
    assert counts(connection, LIVE, incident.INSIGHTS_TABLE) == incident.INSIGHTS
    assert counts(connection, LIVE, incident.MACROS_TABLE) == incident.MACROS
    assert sum(incident.INSIGHTS.values()) >= 5000


def test_exactly_382_rows_of_five_tenants_have_no_embedding(connection: psycopg.Connection) -> None:
    missing = counts(connection, f"{LIVE} AND embedding IS NULL", incident.INSIGHTS_TABLE)
    assert missing == incident.MISSING_BY_TENANT
    assert sum(missing.values()) == incident.MISSING == 382
    beside = f"NOT ({LIVE}) AND embedding IS NULL"
    excused = counts(connection, beside, incident.INSIGHTS_TABLE)
    assert sum(excused.values()) == incident.SOFT_DELETED + incident.BLANK


def test_of_the_tenants_hit_all_rows_of_the_outage_are_missing_and_no_others(
    connection: psycopg.Connection,
) -> None:
    window = incident.outage(NOW)
    in_window = f""""createdAt" >= '{window.start}' AND "createdAt" < '{window.end}'"""
    created = counts(connection, f"{LIVE} AND {in_window}", incident.INSIGHTS_TABLE)
    hit = {tenant: created.get(tenant, 0) for tenant in incident.MISSING_BY_TENANT}
    assert hit == incident.MISSING_BY_TENANT
    outside = f"{LIVE} AND embedding IS NULL AND NOT ({in_window})"
    assert counts(connection, outside, incident.INSIGHTS_TABLE) == {}


def test_seven_macros_hold_vectors_of_another_dimension(connection: psycopg.Connection) -> None:
    wrong = counts(connection, "vector_dims(embedding) <> 1536", incident.MACROS_TABLE)
    assert wrong == incident.WRONG_DIMENSION_BY_TENANT
    assert sum(wrong.values()) == 7


def test_stored_vectors_are_the_bits_that_the_declared_text_gives(
    connection: psycopg.Connection,
) -> None:
    settings = tomllib.loads(Path(incident.__file__).with_name("integrity.toml").read_text())
    declared = next(t for t in settings["tables"] if t["name"] == incident.INSIGHTS_TABLE)
    assert tuple(declared["tenants"]) == incident.TENANTS
    register_vector(connection)
    query = (
        f"SELECT {declared['text']}, embedding FROM {declared['name']} WHERE embedding IS NOT NULL"
    )
    rows = connection.execute(f"{query} ORDER BY id LIMIT 200".encode()).fetchall()
    assert len(rows) == 200
    for text, vector in rows:
        assert vector.to_numpy().astype(np.float32).tobytes() == embed(text).tobytes()


def test_the_best_answer_is_found_only_after_its_row_has_an_embedding(
    connection: psycopg.Connection,
) -> None:
    question = embed(incident.QUESTION)
    before = best_answers(connection, question, incident.ANSWER_TENANT)
    assert len(before) == 3
    with connection.transaction(force_rollback=True):
        (answer,) = (text for text in documentation() if text.name == incident.ANSWER)
        vector = embed(incident.embedded_text(answer.name, answer.docstring))
        repaired = connection.execute(
            'UPDATE workflow_insights SET embedding = %s WHERE title = %s AND "tenantId" = %s'
            " AND embedding IS NULL",
            (vector, incident.ANSWER, incident.ANSWER_TENANT),
        )
        assert repaired.rowcount == 1
        after = best_answers(connection, question, incident.ANSWER_TENANT)
    assert after[0].title == incident.ANSWER
    assert after[0].distance < before[0].distance
    assert incident.ANSWER not in {found.title for found in before}
    shown = render(before, after)
    assert "<- was missing" in shown
    assert f"The best answer, {incident.ANSWER}, is still not found." in render(before, before)
