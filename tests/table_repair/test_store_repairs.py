"""Whole repairs of a store: rows updated and inserted, under names and keys of every kind."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from remediation.journal.journal import FILE_NAME, Journal
from remediation.journal.outcomes import Outcome
from tests.builders.stores import BY_SOMEONE, DECLARED, INSIGHTS, STORE, WIDE_DECLARED, wide
from tests.builders.tables import rows, run
from tests.drivers.repairs import Done, environment, repaired, settings
from tests.servers.provider_server import ProviderServer, vector_of

if TYPE_CHECKING:
    from pathlib import Path


KEYS = environment("acme", "globex")


def test_camel_case_names_of_table_and_store_keep_their_case(database: str, tmp_path: Path) -> None:
    run(
        database,
        'CREATE TABLE "Insight" ("insightId" uuid PRIMARY KEY, "tenantId" text, "bodyText" text)',
        'CREATE TABLE "InsightVector" ("insightId" uuid UNIQUE, vec vector(8), "embeddedBy" text)',
        "INSERT INTO \"Insight\" VALUES (gen_random_uuid(), 'acme', 'one'),"
        " (gen_random_uuid(), 'acme', 'two')",
    )
    store = {
        "name": '"InsightVector"',
        "key": ['"insightId"'],
        "embedding": "vec",
        "model_column": '"embeddedBy"',
    }
    declared = {"name": '"Insight"', "tenant": '"tenantId"', "text": '"bodyText"', "store": store}
    with ProviderServer() as server:
        done = repaired(database, settings(server, tables=[declared]), tmp_path, keys=KEYS)
        model = settings(server).provider.model
    assert fixed(done) == 2
    assert done.after is not None
    assert done.after.findings == ()
    assert rows(database, 'SELECT DISTINCT "embeddedBy" FROM "InsightVector"') == [(model,)]


def fixed(done: Done) -> int:
    (result,) = done.results
    assert result.account.selected == result.account.settled
    return result.account.count(Outcome.FIXED)


def test_a_repair_updates_and_inserts_with_what_the_vector_was_made_from(
    database: str, tmp_path: Path
) -> None:
    wide(database)
    before = rows(database, "SELECT * FROM insights ORDER BY id")
    kept = rows(database, "SELECT * FROM insight_embeddings WHERE insight_id = 1")
    with ProviderServer() as server:
        done = repaired(database, settings(server, tables=[WIDE_DECLARED]), tmp_path, keys=KEYS)
        assert sorted(set(server.texts)) == [
            "text 1",  # the probe
            "text 2",
            "text 3, edited",
            *(f"text {number}" for number in range(4, 9)),
        ]
    assert fixed(done) == 7
    assert done.after is not None
    assert done.after.findings == ()
    assert rows(database, "SELECT * FROM insights ORDER BY id") == before
    assert rows(database, "SELECT * FROM insight_embeddings WHERE insight_id = 1") == kept
    stored = rows(
        database,
        "SELECT insight_id, embedding::text, e.kind, owner, content, model,"
        " content_hash = md5(body), e.embedded_at >= i.updated_at, note"
        " FROM insight_embeddings AS e JOIN insights AS i ON id = insight_id ORDER BY 1",
    )
    assert len(stored) == 8
    for number, vector, kind, owner, content, model, same_hash, in_time, note in stored:
        text = "text 3, edited" if number == 3 else f"text {number}"
        assert [float(x) for x in vector.strip("[]").split(",")] == pytest.approx(
            vector_of(text).tolist(), abs=1e-5
        )
        assert (kind, note) == ("old" if number < 5 else "summary", "by default")
        assert owner == ("GLOBEX" if number > 6 else "ACME")
        assert (content, model, same_hash, in_time) == (text, "text-embedding-3-small", True, True)


def test_the_journal_tells_which_rows_an_undo_must_delete(database: str, tmp_path: Path) -> None:
    wide(database)
    with ProviderServer() as server:
        done = repaired(database, settings(server, tables=[WIDE_DECLARED]), tmp_path, keys=KEYS)
    assert done.folder is not None
    assert (done.folder / FILE_NAME).exists()
    journal = Journal(done.folder)
    try:
        replaced = [event for event in journal.read() if event["event"] == "replacing"]
    finally:
        journal.close()
    inserted = {int(event["key"][0]): event["inserted"] for event in replaced}
    assert inserted == {n: n > 4 for n in range(2, 9)}
    assert {int(e["key"][0]): e["vector"] is None for e in replaced} == {
        n: n > 3 for n in range(2, 9)
    }


def test_a_second_repair_of_a_whole_store_has_nothing_to_do(database: str, tmp_path: Path) -> None:
    wide(database)
    with ProviderServer() as server:
        repaired(database, settings(server, tables=[WIDE_DECLARED]), tmp_path, keys=KEYS)
        requests = len(server.requests)
        before = rows(database, "SELECT ctid, xmin, * FROM insight_embeddings")
        again = repaired(database, settings(server, tables=[WIDE_DECLARED]), tmp_path, keys=KEYS)
        assert again.results == ()
        assert len(server.requests) == requests
    assert rows(database, "SELECT ctid, xmin, * FROM insight_embeddings") == before


@pytest.mark.parametrize("column_type", ["vector", "halfvec(8)", "real[]", "double precision[]"])
def test_a_vector_under_many_texts_is_replaced_by_each_texts_own(
    database: str, tmp_path: Path, column_type: str
) -> None:
    stub = "{1,2,3,4,5,6,7,8}" if column_type.endswith("[]") else "[1,2,3,4,5,6,7,8]"
    run(
        database,
        INSIGHTS,
        STORE.replace("vector(3)", column_type),
        "INSERT INTO insights (id, tenant, body)"
        " SELECT n, 'acme', 'text ' || n FROM generate_series(1, 30) AS n",
        f"INSERT INTO insight_embeddings SELECT n, '{stub}' FROM generate_series(1, 20) AS n",
    )
    declared = {"name": "insights", "tenant": "tenant", "text": "body", "store": DECLARED}
    with ProviderServer() as server:
        done = repaired(database, settings(server, tables=[declared]), tmp_path, keys=KEYS)
    assert fixed(done) == 30
    assert done.after is not None
    assert done.after.findings == ()
    assert rows(database, "SELECT count(DISTINCT embedding::text) FROM insight_embeddings") == [
        (30,)
    ]


def test_percent_signs_in_names_and_expressions_stand_for_themselves(
    database: str, tmp_path: Path
) -> None:
    run(
        database,
        'CREATE TABLE "in%sights" ("%id" text PRIMARY KEY, tenant text, body text)',
        'CREATE TABLE "vec%tors" ("%ref" text UNIQUE, embedding vector(8), "%kind" text NOT NULL)',
        "INSERT INTO \"in%sights\" VALUES ('%s', 'acme', '100%'), ('%(x)s', 'acme', '50 %s')",
        "INSERT INTO \"vec%tors\" VALUES ('%s', NULL, 'old')",
    )
    store = {"name": '"vec%tors"', "key": ['"%ref"'], "insert": {'"%kind"': "'%s' || '%%'"}}
    declared = {
        "name": '"in%sights"',
        "tenant": "tenant",
        "text": "body || '%'",
        "where": "body LIKE '%0%'",
        "store": store,
    }
    with ProviderServer() as server:
        done = repaired(database, settings(server, tables=[declared]), tmp_path, keys=KEYS)
        assert sorted(server.texts) == ["100%%", "50 %s%"]
    assert fixed(done) == 2
    assert rows(database, 'SELECT "%kind" FROM "vec%tors" ORDER BY 1') == [("%s%%",), ("old",)]


def test_texts_edited_and_rows_inserted_while_the_repair_runs_end_whole(
    database: str, tmp_path: Path
) -> None:
    wide(database)
    done_once = threading.Event()

    def meddle(_: object) -> None:
        if not done_once.is_set():
            done_once.set()
            run(
                database,
                "UPDATE insights SET body = body || ', again' WHERE id IN (3, 5)",
                BY_SOMEONE.format("NULL", 6),
                "DELETE FROM insights WHERE id = 7",
            )

    with ProviderServer() as server:
        server.always(meddle)
        config = settings(server, tables=[WIDE_DECLARED])
        config = config.model_copy(update={"repair": config.repair.model_copy(update={"probe": 0})})
        done = repaired(database, config, tmp_path, keys=KEYS)
    assert fixed(done) == 6
    (result,) = done.results
    assert result.account.count(Outcome.SUPERSEDED) == 1
    assert done.after is not None
    assert done.after.findings == ()
    assert rows(database, "SELECT insight_id FROM insight_embeddings ORDER BY 1") == [
        (n,) for n in (1, 2, 3, 4, 5, 6, 8)
    ]


def test_a_composite_key_joins_column_by_column(database: str, tmp_path: Path) -> None:
    run(
        database,
        "CREATE TABLE notes (tenant text, number integer, body text, PRIMARY KEY (tenant, number))",
        "CREATE TABLE vectors (no bigint, owner text, embedding vector(8), UNIQUE (owner, no))",
        "INSERT INTO notes SELECT t, n, t || n FROM unnest('{acme,globex}'::text[]) AS t,"
        " generate_series(1, 3) AS n",
        "INSERT INTO vectors VALUES (1, 'acme', NULL), (4, 'acme', NULL)",
    )
    declared = {
        "name": "notes",
        "tenant": "tenant",
        "text": "body",
        "store": {"name": "vectors", "key": ["owner", "no"]},
        "checks": {"orphans": {"enabled": False}},
    }
    with ProviderServer() as server:
        done = repaired(database, settings(server, tables=[declared]), tmp_path, keys=KEYS)
    assert fixed(done) == 6
    assert done.after is not None
    assert done.after.findings == ()
    assert rows(database, "SELECT count(*), count(embedding) FROM vectors") == [(7, 6)]
