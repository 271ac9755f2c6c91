"""Nothing that a user of the database can create runs as us, but what the settings call."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from checks.database.connection_url import parse_url
from checks.diagnosis.diagnosis import diagnose
from checks.discovery.survey import survey
from checks.examination.examination import examine
from checks.examination.selection import Selection
from checks.scanning.sample import Sample
from tests.builders.hostile_objects import called, mallory
from tests.builders.tables import rows, run
from tests.drivers.canaries import drift, retrieval
from tests.drivers.migrations import migrated, psql
from tests.drivers.repairs import environment, repaired, settings
from tests.drivers.rollbacks import rolled_back, run_of, server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.provider_server import ProviderServer

__all__ = ["server"]

KEYS = environment("acme")

TABLES = """
CREATE SCHEMA app;
CREATE FUNCTION public.our_text(text) RETURNS text IMMUTABLE LANGUAGE sql
    AS $$ SELECT pg_catalog.upper($1) $$;
CREATE DOMAIN app.label AS varchar(20);
CREATE TABLE app.docs (
    code      varchar(20),
    part      smallint,
    mark      app.label,
    tenant    varchar(10),
    body      varchar(200),
    kind      name,
    changed   timestamp,
    made      date,
    embedded  timestamptz(3),
    digest    uuid,
    model     varchar(40),
    embedding {vector},
    PRIMARY KEY (code, part, mark)
);
INSERT INTO app.docs (code, part, mark, tenant, body, kind, changed, made)
SELECT 'c' || n, n, 'm' || n, 'acme', 'text number ' || n, 'note', '2026-01-02 03:04:05',
       '2026-01-01'
FROM pg_catalog.generate_series(1, 12) AS n;
CREATE TABLE app.items (code varchar(20) PRIMARY KEY, tenant text, body text);
INSERT INTO app.items SELECT 'i' || n, 'acme', 'item number ' || n
FROM pg_catalog.generate_series(1, 12) AS n;
CREATE TABLE app.item_vectors (code varchar(20) PRIMARY KEY, embedding {array}, body text)
"""


def _entries(declared: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": "app.docs",
            "tenant": "tenant",
            "text": "our_text(body::text)",
            "created_at": "made",
            "updated_at": "changed",
            "embedded_at": "embedded",
            "content_hash": "digest",
            "model_column": "model",
            "grace": "1 minute",
            "group_by": ["mark", "kind"],
            **declared,
        },
        {
            "name": "app.items",
            "tenant": "tenant",
            "text": "body",
            "store": {
                "name": "app.item_vectors",
                "key": ["code"],
                "embedding": "embedding",
                "text": "body",
            },
        },
    ]


@pytest.mark.parametrize(
    ("schema", "vector", "array", "thoroughly"),
    [
        ("public", "vector", "real[]", False),
        pytest.param("public", "vector(8)", "real[]", True, marks=pytest.mark.thorough),
        pytest.param("extensions", "halfvec(8)", "float8[]", True, marks=pytest.mark.thorough),
    ],
)
def test_no_operator_function_or_type_of_a_user_s_runs_in_the_whole_job(
    bare_database: str,
    server: ProviderServer,
    tmp_path: Path,
    schema: str,
    vector: str,
    array: str,
    thoroughly: bool,
) -> None:
    url = bare_database
    run(url, "CREATE SCHEMA extensions", f"CREATE EXTENSION vector SCHEMA {schema}")
    run(url, *TABLES.format(vector=f"{schema}.{vector}", array=array).split(";\n"))
    mallory(url, thoroughly=thoroughly)
    chosen = settings(server, tables=_entries({}))
    place = parse_url(url, variable="DATABASE_URL")
    assert 'name = "app.docs"' in survey(place).text
    found = diagnose(place, chosen, examine(place, chosen, Selection(tables=None, tenants=None)))
    assert [diagnosis.missing for diagnosis in found.values()] == [None, None]
    done = repaired(url, chosen, tmp_path, keys=KEYS, tables=None)
    assert done.after is not None
    assert [finding.says for finding in done.after.findings] == []
    assert rows(url, "SELECT count(*) FROM app.docs WHERE embedding IS NULL") == [(0,)]
    assert {text for text in server.texts if "TEXT" in text} == {
        f"TEXT NUMBER {n}" for n in range(1, 13)
    }
    assert called(url) == []
    run(
        url,
        f"CREATE INDEX ON app.docs USING hnsw"
        f" ((embedding::{schema}.vector(8)) {schema}.vector_cosine_ops)",
    )
    assert drift(url, chosen, keys=KEYS).held() == {"acme": True}
    assert retrieval(url, chosen).held() == {"acme": True}
    rolled_back(url, chosen, tmp_path, run_of(done))
    assert rows(url, "SELECT FROM app.docs WHERE embedding IS NOT NULL") == []
    assert called(url) == []
    for more in (
        Selection(tenants=("acme",), sample=Sample(percent=Decimal(50), seed=1)),
        Selection(tenants=("acme",), since=timedelta(days=1)),
    ):
        place = parse_url(url, variable="DATABASE_URL")
        assert [table.error for table in examine(place, chosen, more).tables] == [None, None]
    made = migrated(url, chosen)
    run(url, "UPDATE app.docs SET body = 'edited' WHERE part = 1")
    assert psql(url, made.down).returncode == 0
    assert called(url) == []
