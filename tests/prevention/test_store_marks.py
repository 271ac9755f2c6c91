"""Edits of a text whose embedding is in another table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.builders.tables import rows, run
from tests.drivers.migrations import catalog, migrated, migration, psql
from tests.drivers.repairs import environment, examined, repaired, settings
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from pathlib import Path

TABLES = """
CREATE TABLE insights (
    a int, "B" text DEFAULT 'b', tenant text DEFAULT 'acme', body text, updated_at timestamptz,
    PRIMARY KEY (a, "B")
);
CREATE TABLE vectors (
    b text, a int, embedding {}, at timestamptz, hash text, PRIMARY KEY (a, b)
);
INSERT INTO insights (a, body) SELECT n, 'text ' || n FROM generate_series(1, 6) AS n
"""
STORE = {"name": "vectors", "key": ["a", "b"]}
TIME = ({"updated_at": "updated_at"}, {"embedded_at": "at"})


@pytest.mark.parametrize(
    ("declared", "store", "check"),
    [(*TIME, "freshness"), ({}, {}, "completeness"), ({}, {"content_hash": "hash"}, "freshness")],
    ids=["by time", "by NULL", "by itself"],
)
def test_an_edit_is_seen_at_once_in_the_store(
    database: str,
    tmp_path: Path,
    declared: dict[str, Any],
    store: dict[str, Any],
    check: str,
) -> None:
    run(database, TABLES.format("vector(8)"))
    before = catalog(database)
    with ProviderServer() as server:
        chosen = settings(
            server,
            tables=[
                {
                    "name": "insights",
                    "tenant": "tenant",
                    "text": "body",
                    **declared,
                    "store": {**STORE, **store},
                }
            ],
        )
        made = migrated(database, chosen)
        assert repaired(database, chosen, tmp_path, keys=environment("acme")).after is not None
        assert examined(database, chosen, "insights").findings == ()
        run(database, "UPDATE insights SET tenant = 'acme', updated_at = NULL, body = body")
        assert examined(database, chosen, "insights").findings == ()
        run(database, "UPDATE insights SET body = 'edited' WHERE a = 3")
        (finding,) = examined(database, chosen, "insights").findings
        assert (finding.check, finding.failing) == (check, 1)
        assert rows(database, "SELECT tenant, missing, stale FROM embedding_integrity") == [
            ("acme", int(check == "completeness"), 1 if check == "freshness" else None)
        ]
        repaired(database, chosen, tmp_path, keys=environment("acme"))
        assert examined(database, chosen, "insights").findings == ()
    down = psql(database, made.down)
    assert down.returncode == 0, down.stderr
    assert catalog(database) == before


def test_who_may_edit_the_text_and_not_mark_its_embedding_is_named_beforehand(
    database: str,
) -> None:
    run(database, TABLES.format("vector(8)"), "CREATE ROLE web", "GRANT UPDATE ON insights TO web")
    try:
        store = {**STORE, "embedded_at": "at"}
        entry = {"name": "insights", "text": "body", "updated_at": "updated_at", "store": store}
        chosen = settings("http://127.0.0.1:9", tables=[entry])
        grant = 'GRANT UPDATE ("at"), SELECT ("at", "a", "b") ON "public"."vectors" TO "web"'
        assert grant in migration(database, chosen).up
        run(database, grant)
        assert "TO " not in migration(database, chosen).up
        migrated(database, chosen)
        run(database, "GRANT SELECT ON insights TO web", "SET ROLE web")
    finally:
        run(database, "DROP OWNED BY web", "DROP ROLE web")


@pytest.mark.parametrize(
    ("column", "key", "says"),
    [
        ("vector(8) NOT NULL", ["a", "b"], "declare content_hash of the store"),
        ("vector(8)", ["a"], "declare updated_at of the table and embedded_at of the store"),
    ],
    ids=["no NULL", "pieces"],
)
def test_what_cannot_be_marked_is_said_with_what_would_help(
    database: str, column: str, key: list[str], says: str
) -> None:
    run(database, TABLES.format(column), "CREATE UNIQUE INDEX ON insights (a)")
    entry = {"name": "insights", "key": key, "text": "body", "store": {**STORE, "key": key}}
    if len(key) == 2:
        entry["key"] = ["a", '"B"']
    script = migration(database, settings("http://127.0.0.1:9", tables=[entry])).up
    assert f"-- edits of the text stay unseen: {says}" not in script
    assert says in script
    assert "CREATE OR REPLACE TRIGGER" not in script
