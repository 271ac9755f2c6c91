"""Repairs of a store: rows updated and inserted, and never over what changed meanwhile."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from checks.database.connection import connect
from checks.database.connection_url import parse_url
from remediation.journal.journal import FILE_NAME, Journal
from remediation.journal.outcomes import Outcome
from remediation.run.checks_to_heal import repairable_checks
from remediation.selection.row_reader import RowReader
from remediation.writing.changes import NewVectors
from remediation.writing.table_statements import NewVector
from remediation.writing.writer import Writer
from tests.builders.stores import DECLARED, INSIGHTS, STORE
from tests.builders.tables import rows, run
from tests.drivers.repairs import Done, environment, meanwhile, repaired, settings
from tests.drivers.repairs import examined as examined_table
from tests.servers.provider_server import ProviderServer, vector_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta
    from pathlib import Path

    from checks.settings.integrity_toml import Settings
    from remediation.selection.batching import FailingRow

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


def chosen(server: ProviderServer | str, **keys: Any) -> Settings:
    declared = {
        "name": "insights",
        "tenant": "tenant",
        "text": "body",
        "updated_at": "updated_at",
        "store": WHOLE_STORE,
        **keys,
    }
    return settings(server, tables=[declared])


def test_a_repair_updates_and_inserts_with_what_the_vector_was_made_from(
    database: str, tmp_path: Path
) -> None:
    wide(database)
    before = rows(database, "SELECT * FROM insights ORDER BY id")
    kept = rows(database, "SELECT * FROM insight_embeddings WHERE insight_id = 1")
    with ProviderServer() as server:
        done = repaired(database, chosen(server), tmp_path, keys=KEYS)
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
        done = repaired(database, chosen(server), tmp_path, keys=KEYS)
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
        repaired(database, chosen(server), tmp_path, keys=KEYS)
        requests = len(server.requests)
        before = rows(database, "SELECT ctid, xmin, * FROM insight_embeddings")
        again = repaired(database, chosen(server), tmp_path, keys=KEYS)
        assert again.results == ()
        assert len(server.requests) == requests
    assert rows(database, "SELECT ctid, xmin, * FROM insight_embeddings") == before


@contextmanager
def writing(url: str, **keys: Any) -> Iterator[tuple[Writer[NewVector], list[FailingRow]]]:
    """A writer for the store, and the failing rows as they were read."""
    examination = examined_table(url, chosen("http://127.0.0.1:9", **keys), "insights")
    place = parse_url(url, variable="DATABASE_URL")
    timeout: timedelta = chosen("http://127.0.0.1:9").database.statement_timeout
    reader = RowReader(
        target=examination.target,
        checks=repairable_checks(examination),
        place=place,
        timeout=timeout,
    )
    with connect(place) as connection:
        read = list(reader.failing_rows(connection, tenants=None))
    writer = Writer(
        change=NewVectors(target=examination.target, reader=reader),
        place=place,
        stop=threading.Event(),
        check_lock=lambda: None,
        before_write=lambda _: None,
    )
    try:
        yield writer, read
    finally:
        writer.close()


def written(writer: Writer[NewVector], read: list[FailingRow]) -> dict[int, tuple[Outcome, str]]:
    new = [NewVector(row=row, vector=vector_of(row.text)) for row in read]
    return {
        int(outcome.row.key[0]): (outcome.outcome, outcome.reason)
        for outcome in writer.write(new).outcomes
    }


THEIRS = "'[1,0,0,0,0,0,0,0]'"
COLUMNS = "insight_id, kind, owner, content, model, embedded_at, content_hash, embedding"
BY_SOMEONE = (
    f"INSERT INTO insight_embeddings ({COLUMNS}) SELECT id, 'k', 'o', body,"
    " 'text-embedding-3-small', now(), md5(body), {} FROM insights WHERE id = {}"
)
SUPERSEDED = "repaired or changed by someone else meanwhile"
GONE = "deleted, or out of the declared scope, meanwhile"


@pytest.mark.parametrize(
    ("number", "change", "reason"),
    [
        (5, BY_SOMEONE.format(THEIRS, 5), SUPERSEDED),
        (5, BY_SOMEONE.format("NULL", 5), SUPERSEDED),
        (5, "UPDATE insights SET body = 'new' WHERE id = 5", "its text was edited meanwhile"),
        (5, "UPDATE insights SET tenant = 'x' WHERE id = 5", "moved to another tenant meanwhile"),
        (5, "DELETE FROM insights WHERE id = 5", GONE),
        (4, "DELETE FROM insights WHERE id = 4", GONE),
        (4, "DELETE FROM insight_embeddings WHERE insight_id = 4", SUPERSEDED),
        (3, "UPDATE insights SET body = 'newer' WHERE id = 3", "its text was edited meanwhile"),
        (2, "DELETE FROM insight_embeddings WHERE insight_id = 2", SUPERSEDED),
        (
            2,
            f"UPDATE insight_embeddings SET embedding = {THEIRS} WHERE insight_id = 2",
            SUPERSEDED,
        ),
    ],
)
def test_what_changed_between_read_and_write_is_left_as_it_is(
    database: str, number: int, change: str, reason: str
) -> None:
    wide(database)
    with writing(database) as (writer, read):
        run(database, change)
        of_row = f"SELECT * FROM insight_embeddings WHERE insight_id = {number}"
        before = rows(database, of_row)
        said = written(writer, read)
    assert said.pop(number) == (Outcome.SUPERSEDED, reason)
    assert set(said.values()) == {(Outcome.FIXED, "")}
    assert rows(database, of_row) == before


def test_a_row_that_is_deleted_as_its_store_row_is_inserted_is_told_as_gone(
    database: str,
) -> None:
    wide(database)
    with writing(database) as (writer, read), psycopg.connect(database) as other:
        # Our guard still sees the row; the foreign key waits for this, and then refuses.
        other.execute("DELETE FROM insights WHERE id = 6")

        def commit_when_waited_for(stop: threading.Event) -> None:
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE cardinality("
            with psycopg.connect(database, autocommit=True) as watching:
                while not stop.wait(0.01):
                    row = watching.execute(waiting + "pg_blocking_pids(pid)) > 0").fetchone()
                    if row is not None and row[0]:
                        other.commit()
                        return

        with meanwhile(commit_when_waited_for):
            said = written(writer, read)
    assert said.pop(6) == (Outcome.SUPERSEDED, GONE)
    assert set(said.values()) == {(Outcome.FIXED, "")}
    assert rows(database, "SELECT count(*) FROM insight_embeddings") == [(7,)]


def test_a_row_that_the_store_refuses_fails_alone(database: str) -> None:
    wide(database)
    run(
        database,
        "ALTER TABLE insight_embeddings ADD CONSTRAINT not_six CHECK (insight_id <> 6)",
        "ALTER TABLE insight_embeddings ADD UNIQUE (content)",
        "UPDATE insights SET body = 'text 1' WHERE id = 8",
    )
    with writing(database) as (writer, read):
        said = written(writer, read)
    assert said.pop(6)[0] is Outcome.FAILED
    outcome, reason = said.pop(8)
    assert outcome is Outcome.FAILED
    assert "duplicate key value violates unique constraint" in reason
    assert set(said.values()) == {(Outcome.FIXED, "")}


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


def test_an_insert_that_another_session_has_not_finished_holds_up_no_other_row(
    database: str,
) -> None:
    wide(database)
    with writing(database) as (writer, read), psycopg.connect(database) as other:
        other.execute(BY_SOMEONE.format(THEIRS, 6))
        other.execute("UPDATE insight_embeddings SET note = 'mine' WHERE insight_id = 3")
        said = written(writer, read)
        other.rollback()
    # The two are handed back, to be written later.
    assert said == dict.fromkeys([2, 4, 5, 7, 8], (Outcome.FIXED, ""))


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
        config = chosen(server)
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
