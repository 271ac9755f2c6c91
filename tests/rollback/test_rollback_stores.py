"""A rollback of a store: its rows go back, and those that the run inserted go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from remediation.journal.outcomes import Outcome
from tests.builders.tables import rows, run
from tests.drivers.repairs import environment, repaired, settings
from tests.drivers.rollbacks import rolled_back, run_of, server

if TYPE_CHECKING:
    from pathlib import Path

    from checks.settings.integrity_toml import Settings
    from tests.servers.provider_server import ProviderServer

__all__ = ["server"]

KEYS = environment("acme", "globex")


def settings_of_store(server: ProviderServer, **store: Any) -> Settings:
    declared = {
        "name": "insights",
        "tenant": "tenant",
        "text": "body",
        "store": {
            "name": "insight_embeddings",
            "key": ["insight_id"],
            "text": "content",
            "model_column": "model",
            "embedded_at": "embedded_at",
            "content_hash": "content_hash",
            "insert": {"kind": "'summary'"},
            **store,
        },
    }
    return settings(server, tables=[declared])


@pytest.mark.parametrize("kind", ["vector", "halfvec(8)", "real[]"])
def test_store_rows_go_back_and_inserted_ones_go(
    database: str, tmp_path: Path, server: ProviderServer, kind: str
) -> None:
    old = "{1,2}" if kind.endswith("[]") else "[1,2,3,4,5,6,7,8]"
    run(
        database,
        "CREATE TABLE insights (id integer PRIMARY KEY, tenant text, body text)",
        f"CREATE TABLE insight_embeddings (insight_id bigint UNIQUE, embedding {kind},"
        " kind text NOT NULL, content text, model text, embedded_at timestamptz, content_hash uuid,"
        " note text DEFAULT 'by default')",
        "INSERT INTO insights SELECT n, 'acme', 'text ' || n FROM generate_series(1, 9) AS n",
        "INSERT INTO insight_embeddings SELECT n,"
        f" CASE WHEN n < 3 THEN '{old}'::text::{kind} END, 'theirs', 'old text', 'old',"
        " '2020-01-01'"
        " FROM generate_series(1, 4) AS n",
    )
    everything = "SELECT e::text FROM insight_embeddings AS e ORDER BY insight_id"
    without_text = (
        "SELECT insight_id, embedding::text, kind, model, embedded_at, content_hash, note"
        " FROM insight_embeddings ORDER BY 1"
    )
    before = rows(database, without_text)
    chosen = settings_of_store(server)
    done = repaired(database, chosen, tmp_path, keys=KEYS)
    (result,) = done.results
    assert result.account.count(Outcome.FIXED) == 9
    after = rows(database, everything)
    undone = rolled_back(database, chosen, tmp_path, run_of(done))
    assert undone.counts() == {"selected": 9, "restored": 9}
    assert rows(database, without_text) == before
    # A rollback is a run like any other: what it deleted is inserted again.
    run(database, "UPDATE insights SET body = 'edited' WHERE id = 9")
    back = rolled_back(database, chosen, tmp_path, undone.run_id)
    assert back.counts() == {"selected": 9, "restored": 8, "superseded": 1}
    assert rows(database, everything) == after[:8]


def test_an_inserted_store_row_that_someone_changed_stays(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    run(
        database,
        "CREATE TABLE insights (id integer PRIMARY KEY, tenant text, body text)",
        "CREATE TABLE insight_embeddings (insight_id integer UNIQUE, embedding vector(8),"
        " kind text NOT NULL, content text, model text, embedded_at timestamptz,"
        " content_hash text)",
        "INSERT INTO insights SELECT n, 'acme', 'text ' || n FROM generate_series(1, 4) AS n",
    )
    chosen = settings_of_store(server)
    done = repaired(database, chosen, tmp_path, keys=KEYS)
    theirs = "[1,0,0,0,0,0,0,0]"
    run(
        database,
        f"UPDATE insight_embeddings SET embedding = '{theirs}' WHERE insight_id = 2",
        "DELETE FROM insight_embeddings WHERE insight_id = 3",
    )
    undone = rolled_back(database, chosen, tmp_path, run_of(done))
    assert undone.counts() == {"selected": 4, "restored": 2, "superseded": 1, "skipped": 1}
    assert rows(database, "SELECT insight_id, embedding::text FROM insight_embeddings") == [
        (2, theirs)
    ]


def test_an_inserted_store_row_that_would_drag_others_along_stays(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    run(
        database,
        "CREATE TABLE insights (id integer PRIMARY KEY, tenant text, body text)",
        "CREATE TABLE insight_embeddings (insight_id integer PRIMARY KEY, embedding vector(8),"
        " kind text NOT NULL, content text, model text, embedded_at timestamptz,"
        " content_hash text)",
        "CREATE TABLE votes (insight_id integer REFERENCES insight_embeddings ON DELETE CASCADE)",
        "INSERT INTO insights SELECT n, 'acme', 'text ' || n FROM generate_series(1, 4) AS n",
    )
    chosen = settings_of_store(server)
    done = repaired(database, chosen, tmp_path, keys=KEYS)
    run(database, "INSERT INTO votes VALUES (2)")
    undone = rolled_back(database, chosen, tmp_path, run_of(done))
    assert undone.counts() == {"selected": 4, "failed": 4}
    assert undone.reasons() == {
        "not deleted: a foreign key of votes would delete or change its rows as well"
    }
    assert rows(database, "SELECT count(*) FROM insight_embeddings") == [(4,)]
