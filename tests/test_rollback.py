"""A rollback puts back what a run replaced, byte for byte, and nothing that changed since."""

from __future__ import annotations

import json
import os
import signal
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest

from checks.connection import connect
from checks.connection_url import parse_url
from checks.errors import CannotExamineError
from remediation.batching import FailingRow
from remediation.history import History
from remediation.journal import Journal
from remediation.journals import find_journal
from remediation.opening import RepairRefusedError
from remediation.outcomes import Outcome, RowOutcome
from remediation.writes import NewVector
from tests.faults.link import Link, cut
from tests.faults.wire import Step
from tests.provider_server import ProviderServer, vector_of
from tests.repairs import docs, environment, repaired, settings
from tests.rollbacks import foreseen, rolled_back
from tests.rollbacks import opened as opened_rollback
from tests.small_disk import files_of_at_most
from tests.tables import role, rows, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from checks.settings import Settings
    from tests.repairs import Docs

KEYS = environment("acme", "globex")
TYPES = ("vector", "halfvec", "sparsevec", "real[]", "double precision[]")
WRONG = {
    "vector": ("[1.5,-0,3.4e-38]", "[0.1,0.2]"),
    "halfvec": ("[1.5,-0,6.1e-5]", "[0.1,0.2]"),
    "sparsevec": ("{2:1.5,700:-0.1}/900", "{1:0.1}/2"),
    "real[]": ("[0:2]={1.5,NaN,-Infinity}", "{{0.1,NULL},{-0,3e-45}}"),
    "double precision[]": ("[0:2]={1.5,NaN,-Infinity}", "{{0.1,NULL},{-0,5e-324}}"),
}
"""Two vectors of each type, not of eight dimensions, with what is easily lost on the way."""


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer() as provider:
        yield provider


def stored(table: Docs) -> list[tuple[Any, ...]]:
    """Every row with the bytes of its vector."""
    send = "array_send" if table.type.endswith("[]") else f"{table.type.partition('(')[0]}_send"
    return table.rows(f"id, tenant, body, note, hidden, md5({send}(embedding)), embedding IS NULL")


def run_of(done: Any) -> str:
    assert done.folder is not None
    return str(done.folder.name)


def events_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_goes_back_byte_for_byte(
    database: str, tmp_path: Path, server: ProviderServer, kind: str
) -> None:
    with docs(database, {"acme": (4, 4), "globex": (2, 1)}, kind) as table:
        for number, literal in zip((1, 9), WRONG[kind], strict=True):
            table.execute(
                f"UPDATE docs SET embedding = %s::text::{kind} WHERE id = %s", (literal, number)
            )
        before = stored(table)
        chosen = settings(server)
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 7, "fixed": 7}
        after = stored(table)
        assert foreseen(database, chosen, tmp_path, run_of(done)).counts() == {
            "selected": 7,
            "restored": 7,
        }
        assert stored(table) == after
        undone = rolled_back(database, chosen, tmp_path, run_of(done))
        assert undone.counts() == {"selected": 7, "restored": 7}
        assert stored(table) == before
        again = rolled_back(database, chosen, tmp_path, run_of(done))
        assert again.counts() == {"selected": 7, "skipped": 7}
        assert again.reasons() == {"it is as it was before the run already"}
        back = rolled_back(database, chosen, tmp_path, undone.run_id)
        assert back.counts() == {"selected": 7, "restored": 7}
        assert stored(table) == after


def test_what_changed_since_is_left_and_told(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    theirs = "[1,0,0,0,0,0,0,0]"
    with docs(database, {"acme": (1, 8)}) as table:
        chosen = settings(server)
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        table.execute(f"UPDATE docs SET embedding = '{theirs}' WHERE id = 2")
        table.execute("UPDATE docs SET embedding = NULL WHERE id = 3")
        table.execute("DELETE FROM docs WHERE id = 4")
        table.execute("UPDATE docs SET body = 'edited' WHERE id = 5")
        table.execute("UPDATE docs SET hidden = true, tenant = 'globex' WHERE id = 6")
        undone = rolled_back(database, chosen, tmp_path, run_of(done))
        # A NULL that somebody else wrote is no different from the one that was there.
        assert undone.counts() == {"selected": 8, "restored": 5, "superseded": 2, "skipped": 1}
        assert undone.reasons() == {
            "its row is gone",
            "it no longer holds what the run wrote",
            "it is as it was before the run already",
        }
        assert table.execute("SELECT embedding::text FROM docs WHERE id = 2") == [(theirs,)]
        assert table.execute("SELECT id FROM docs WHERE embedding IS NULL ORDER BY id") == [
            (3,),
            (5,),
            (6,),
            (7,),
            (8,),
            (9,),
        ]


WITH_ALL = """
CREATE TABLE docs (
    id integer, part smallint, tenant text, body text, hidden boolean DEFAULT false,
    embedding vector, model varchar(40), embedded_at timestamp(3), content_hash bytea,
    PRIMARY KEY (part, id)
) PARTITION BY LIST (part)
"""
TELLING = {"model_column": "model", "embedded_at": "embedded_at", "content_hash": "content_hash"}


def with_all(url: str) -> None:
    """Rows of a partitioned table with a composite key; 2 to 6 stale, each in its own way."""
    run(
        url,
        WITH_ALL,
        *(f"CREATE TABLE docs_{n} PARTITION OF docs FOR VALUES IN ({n})" for n in (1, 2)),
        "INSERT INTO docs SELECT n, 1 + n % 2, 'acme', 'document ' || n || ' of acme', false,"
        " '[1,2,3]', 'an-older-model', '2020-02-03 04:05:06.789', '\\x00ff' FROM"
        " generate_series(2, 6) AS n",
        "UPDATE docs SET model = NULL, embedded_at = NULL, content_hash = NULL WHERE id = 3",
        "UPDATE docs SET embedding = NULL, model = '' WHERE id = 4",
        "UPDATE docs SET embedded_at = '-infinity', model = E'a \\\\ \"%s\" \\n' WHERE id = 5",
        "UPDATE docs SET embedded_at = '0044-03-15 00:00:01 BC' WHERE id = 6",
    )


@pytest.mark.parametrize("date_style", ["ISO, MDY", "German", "SQL, DMY"])
def test_what_tells_of_a_vector_goes_back_with_it(
    database: str, tmp_path: Path, server: ProviderServer, date_style: str
) -> None:
    with_all(database)
    name = database.rpartition("/")[2].partition("?")[0]
    run(database, f"ALTER DATABASE {name} SET DateStyle TO '{date_style}'")
    everything = "SELECT docs::text, md5(vector_send(embedding)) FROM docs ORDER BY id"
    before = rows(database, everything)
    chosen = settings(server, table={**TELLING})
    done = repaired(database, chosen, tmp_path, keys=KEYS)
    assert done.counts() == {"selected": 5, "fixed": 5}
    assert len(rows(database, "SELECT FROM docs WHERE model = 'text-embedding-3-small'")) == 5
    undone = rolled_back(database, chosen, tmp_path, run_of(done))
    assert undone.counts() == {"selected": 5, "restored": 5}
    assert rows(database, everything) == before


def test_times_go_back_whatever_the_zone_of_the_server(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    """Read back in another zone than they were read in, they would seem to be others."""
    with docs(database, {"acme": (2, 2)}) as table:
        table.execute("ALTER TABLE docs ADD COLUMN embedded_at timestamptz DEFAULT '2026-01-01Z'")
        name = database.rpartition("/")[2].partition("?")[0]
        run(database, f"ALTER DATABASE {name} SET TimeZone TO 'Asia/Kolkata'")
        everything = "SELECT docs::text FROM docs ORDER BY id"
        before = rows(database, everything)
        chosen = settings(server, table={"embedded_at": "embedded_at"})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 2, "fixed": 2}
        undone = rolled_back(database, chosen, tmp_path, run_of(done))
        assert undone.counts() == {"selected": 2, "restored": 2}
        assert rows(database, everything) == before


def test_a_key_whose_type_is_found_by_the_urls_schema_is_put_back(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (2, 2)}) as table:
        table.execute("CREATE SCHEMA app")
        table.execute("CREATE DOMAIN app.number AS integer")
        table.execute("ALTER TABLE docs ALTER COLUMN id TYPE app.number")
        chosen = settings(server)
        url = f"{database}{'&' if '?' in database else '?'}schema=app"
        done = repaired(url, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 2, "fixed": 2}
        undone = rolled_back(url, chosen, tmp_path, run_of(done))
        assert undone.counts() == {"selected": 2, "restored": 2}


def test_a_vector_that_was_only_stamped_anew_gets_its_old_stamps_back(
    each_database: str, tmp_path: Path, server: ProviderServer
) -> None:
    """The vector is the same before and after; what stands beside it is not."""
    database = each_database
    with_all(database)
    chosen = settings(server, table={**TELLING})
    repaired(database, chosen, tmp_path, keys=KEYS)
    run(database, "UPDATE docs SET model = 'stamped', embedded_at = '2021-01-01' WHERE id = 2")
    before = rows(database, "SELECT docs::text FROM docs ORDER BY id")
    done = repaired(database, chosen, tmp_path, keys=KEYS)
    assert done.counts() == {"selected": 1, "fixed": 1}
    assert rows(database, "SELECT docs::text FROM docs ORDER BY id") != before
    assert rolled_back(database, chosen, tmp_path, run_of(done)).counts() == {
        "selected": 1,
        "restored": 1,
    }
    assert rows(database, "SELECT docs::text FROM docs ORDER BY id") == before


def test_a_stamp_that_changed_between_read_and_write_is_not_overwritten(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    """Else the journal would hold another one than was replaced."""
    with_all(database)
    chosen = settings(server, table={**TELLING}, repair={"probe": 0})
    touched: list[None] = []

    def stamp(_: object) -> None:
        if not touched:
            touched.append(None)
            run(database, "UPDATE docs SET embedded_at = '2022-02-02' WHERE id = 2")

    server.always(stamp)
    done = repaired(database, chosen, tmp_path, keys=KEYS)
    assert done.counts() == {"selected": 5, "fixed": 5}
    rolled_back(database, chosen, tmp_path, run_of(done))
    assert rows(database, "SELECT embedded_at::text FROM docs WHERE id = 2") == [
        ("2022-02-02 00:00:00",)
    ]


def test_a_row_that_was_written_twice_goes_back_to_what_was_before_the_first_write(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 12)}, "vector") as table:
        table.execute("UPDATE docs SET embedding = '[1,2]' WHERE id IN (3, 4)")
        before = {row[0]: row[5:] for row in stored(table)}
        settled: list[Outcome] = []

        def edit(outcome: Outcome) -> None:
            settled.append(outcome)
            if len(settled) == 5:
                table.execute("UPDATE docs SET body = body || ', edited' WHERE id IN (2, 3)")
                table.execute("UPDATE docs SET embedding = '[7,7]' WHERE id = 4")

        chosen = settings(server, provider={"concurrency": 1})
        done = repaired(database, chosen, tmp_path, keys=KEYS, on_outcome=edit)
        assert done.folder is not None
        written = [e["key"] for e in events_of(done.folder) if e["event"] == "replacing"]
        assert [written.count([key]) for key in ("2", "3", "5")] == [2, 2, 1]
        undone = rolled_back(database, chosen, tmp_path, run_of(done))
        after = {row[0]: row[5:] for row in stored(table)}
        assert after.pop(4) != before.pop(4)
        assert after == before
        assert undone.counts() == {"selected": 12, "restored": 11, "superseded": 1}


def test_another_vector_than_was_sent_is_known_by_its_outcome(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 6)}) as table:
        before = stored(table)
        table.execute(
            "CREATE FUNCTION double() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN NEW.embedding = NEW.embedding + NEW.embedding; RETURN NEW; END $$"
        )
        table.execute(
            "CREATE TRIGGER double BEFORE UPDATE ON docs FOR EACH ROW"
            " WHEN (NEW.embedding IS NOT NULL) EXECUTE FUNCTION double()"
        )
        chosen = settings(server)
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 6, "fixed": 6}
        assert rolled_back(database, chosen, tmp_path, run_of(done)).counts() == {
            "selected": 6,
            "restored": 6,
        }
        assert stored(table) == before


def test_a_run_that_was_killed_before_it_entered_its_outcomes_can_be_undone(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 6)}, "vector") as table:
        table.execute("UPDATE docs SET embedding = '[1,2]' WHERE id < 4")
        before = stored(table)
        chosen = settings(server)
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.folder is not None
        path = done.folder / "journal.jsonl"
        kept = [line for line in path.read_bytes().splitlines(True) if b'"replacing"' in line[:30]]
        head = path.read_bytes().splitlines(True)[:2]
        # As a crash leaves it, the last line cut off.
        path.write_bytes(b"".join([*head, *kept]) + b'{"event": "replac')
        assert rolled_back(database, chosen, tmp_path, run_of(done)).counts() == {
            "selected": len(kept),
            "restored": len(kept),
        }
        assert stored(table) == before


def test_rows_that_could_not_be_read_back_after_their_write_can_be_undone(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    """A check of the user's own that fails upon the new vectors, when they are committed."""
    with docs(database, {"acme": (0, 3)}) as table:
        wrong = "embedding IS NULL OR 1 / (embedding <-> embedding) > 0"
        custom = [{"name": "apart", "failing_when": wrong, "remedy": "re-embed"}]
        chosen = settings(server, table={"custom": custom})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 3, "failed": 3}
        written = len(table.execute("SELECT id FROM docs WHERE embedding IS NOT NULL"))
        assert written > 0
        undone = rolled_back(database, chosen, tmp_path, run_of(done))
        assert undone.counts() == {"selected": written, "restored": written}
        assert table.wrong() == [1, 2, 3]


def test_rows_that_were_locked_between_their_commit_and_their_read_back_can_be_undone(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 3)}) as table, psycopg.connect(database) as other:
        chosen = settings(server)
        with Link(database) as link:

            def lock(_: object) -> None:
                other.execute("LOCK TABLE docs IN ACCESS EXCLUSIVE MODE")

            link.when(Step.COMMITTED, lock)
            done = repaired(
                link.url,
                chosen,
                tmp_path,
                keys=KEYS,
                lock_patience=1.0,
                on_outcome=lambda _: other.rollback(),
            )
            assert link.fired == [Step.COMMITTED]
        assert done.counts() == {"selected": 3, "skipped": 3}
        assert table.wrong() == []
        undone = rolled_back(database, chosen, tmp_path, run_of(done))
        assert undone.counts() == {"selected": 3, "restored": 3}
        assert table.wrong() == [2, 3, 4]


def test_what_the_run_did_not_write_is_not_put_back_even_if_another_run_did(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    """Both runs are given the same vectors, so that these do not tell whose they are."""
    with docs(database, {"acme": (1, 6)}) as table:
        chosen = settings(server)
        with psycopg.connect(database) as other:
            other.execute("SELECT FROM docs WHERE id IN (3, 5) FOR UPDATE")
            first = repaired(database, chosen, tmp_path, keys=KEYS)
        assert first.counts() == {"selected": 6, "fixed": 4, "skipped": 2}
        second = repaired(database, chosen, tmp_path, keys=KEYS)
        assert second.counts() == {"selected": 2, "fixed": 2}
        assert rolled_back(database, chosen, tmp_path, run_of(first)).counts() == {
            "selected": 4,
            "restored": 4,
        }
        assert table.wrong() == [2, 4, 6, 7]
        rolled_back(database, chosen, tmp_path, run_of(second))
        assert table.wrong() == [2, 3, 4, 5, 6, 7]


def test_only_the_selected_tenants_are_rolled_back(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 3), "globex": (1, 4)}) as table:
        chosen = settings(server)
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        undone = rolled_back(database, chosen, tmp_path, run_of(done), tenants=("globex",))
        assert undone.counts() == {"selected": 4, "restored": 4}
        assert table.wrong() == [6, 7, 8, 9]


def test_a_locked_row_is_skipped_and_its_neighbours_go_back(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 6)}) as table:
        chosen = settings(server)
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        with psycopg.connect(database) as other:
            other.execute("UPDATE docs SET note = 'mine' WHERE id = 4")
            undone = rolled_back(database, chosen, tmp_path, run_of(done))
        assert undone.counts() == {"selected": 6, "restored": 5, "skipped": 1}
        assert table.wrong() == [2, 3, 5, 6, 7]
        again = rolled_back(database, chosen, tmp_path, run_of(done))
        assert again.counts() == {"selected": 6, "restored": 1, "skipped": 5}


def test_a_commit_whose_answer_was_lost_counts_as_put_back(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 6)}) as table:
        chosen = settings(server)
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        with Link(database) as link:
            link.when(Step.COMMITTED, cut)
            undone = rolled_back(link.url, chosen, tmp_path, run_of(done))
            assert link.fired == [Step.COMMITTED]
        assert undone.counts() == {"selected": 6, "restored": 6}
        assert len(table.wrong()) == 6


def test_a_journal_that_fills_up_stops_the_rollback_before_it_overwrites(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 60)}) as table:
        chosen = settings(server)
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        with (
            files_of_at_most(8_000),
            opened_rollback(database, chosen, tmp_path, run_of(done)) as rollback,
        ):
            rollback.run(tmp_path, lambda _: None)
        (result,) = rollback.results
        assert result.stopped is not None
        assert "the journal cannot be written (File too large)" in result.stopped
        assert result.account.selected == result.account.settled == 60
        kept = {
            int(event["key"][0])
            for _, event in find_journal(rollback.run_id, tmp_path).events()
            if event["event"] == "replacing"
        }
        assert 0 < len(table.wrong()) < 60
        assert set(table.wrong()) <= kept
        rolled_back(database, chosen, tmp_path, run_of(done))
        assert len(table.wrong()) == 60


def test_another_database_is_refused(
    database: str, bare_database: str, tmp_path: Path, server: ProviderServer
) -> None:
    chosen = settings(server)
    with docs(database, {"acme": (1, 2)}):
        done = repaired(database, chosen, tmp_path, keys=KEYS)
    run(bare_database, "CREATE EXTENSION vector")
    with docs(bare_database, {"acme": (1, 2)}) as table:
        before = table.versions()
        with pytest.raises(RepairRefusedError, match="wrote to another database"):
            rolled_back(bare_database, chosen, tmp_path, run_of(done))
        assert table.versions() == before


@pytest.mark.parametrize("first", ["", '{"event": "outcome"}\n', '{"event": "run"}\n'])
def test_a_journal_that_does_not_say_where_it_wrote_is_refused(
    database: str, tmp_path: Path, server: ProviderServer, first: str
) -> None:
    folder = tmp_path / "20261122T203438Z-f36a3d"
    folder.mkdir()
    (folder / "journal.jsonl").write_text(first, encoding="utf-8")
    with (
        docs(database, {"acme": (1, 2)}),
        pytest.raises(RepairRefusedError, match="nothing can be put back from it"),
    ):
        rolled_back(database, settings(server), tmp_path, folder.name)


def test_a_column_that_is_declared_otherwise_by_now_is_refused(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 2)}) as table:
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        table.execute("ALTER TABLE docs ADD COLUMN other vector(8)")
        other = settings(server, table={"embedding": "other"})
        with opened_rollback(database, other, tmp_path, run_of(done)) as rollback:
            rollback.run(tmp_path, lambda _: None)
        (result,) = rollback.results
        assert result.stopped == (
            "the run wrote with embedding embedding, and the settings now say other; use those of"
            " the run"
        )


def test_a_repair_under_way_keeps_a_rollback_out(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 2)}) as table:
        chosen = settings(server)
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        with psycopg.connect(database) as holder:
            holder.execute("SELECT pg_advisory_xact_lock(1701667428, 'docs'::regclass::oid::int)")
            with opened_rollback(database, chosen, tmp_path, run_of(done)) as rollback:
                rollback.run(tmp_path, lambda _: None)
        (result,) = rollback.results
        assert result.stopped is not None
        assert "is being repaired by" in result.stopped
        assert table.wrong() == []


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


def test_an_interrupt_ends_a_rollback_in_order_and_the_next_one_goes_on(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 400)}) as table:
        chosen = settings(server, provider={"batch_size": 100})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        settled: list[Outcome] = []

        def interrupt(outcome: Outcome) -> None:
            settled.append(outcome)
            if len(settled) == 30:
                os.kill(os.getpid(), signal.SIGINT)
                # The main thread takes the signal in its own time.
                time.sleep(0.5)

        with (
            opened_rollback(database, chosen, tmp_path, run_of(done)) as rollback,
            pytest.raises(KeyboardInterrupt),
        ):
            rollback.run(tmp_path, interrupt)
        (result,) = rollback.results
        assert result.stopped == "the repair was interrupted"
        assert result.account.selected == result.account.settled == len(settled)
        assert len(table.wrong()) == result.account.count(Outcome.RESTORED) < 400
        rolled_back(database, chosen, tmp_path, run_of(done))
        assert len(table.wrong()) == 400


def test_a_role_under_a_policy_that_shows_all_rows_rolls_back_its_own_repair(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 3)}) as table, role(database, "undoer") as limited:
        table.execute("GRANT SELECT, UPDATE (embedding) ON docs TO undoer")
        table.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
        table.execute("CREATE POLICY everything ON docs USING (true)")
        before = stored(table)
        chosen = settings(server)
        done = repaired(limited, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 3, "fixed": 3}
        undone = rolled_back(limited, chosen, tmp_path, run_of(done))
        assert undone.counts() == {"selected": 3, "restored": 3}
        assert stored(table) == before
        table.execute("DROP POLICY everything ON docs")
        with pytest.raises(CannotExamineError, match="may hide rows of"):
            rolled_back(limited, chosen, tmp_path, run_of(done))


def test_two_tries_of_a_write_that_came_to_nothing_leave_nothing_to_put_back(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path / "20261122T203438Z-f36a3d")
    row = FailingRow(
        key=("1",),
        tenant="acme",
        text="",
        text_hash="t",
        vector_hash=None,
        checks=("completeness",),
    )
    new = NewVector(row=row, vector=vector_of("x"), stored_as="0" * 32)
    history = History(journal=find_journal("20261122T203438Z-f36a3d", tmp_path))
    journal.replacing("public.docs", [new])
    journal.replacing("public.docs", [new])
    history.read_on()
    assert len(history.tables["public.docs"]) == 1
    journal.outcomes("public.docs", [RowOutcome(row=row, outcome=Outcome.SKIPPED)])
    journal.close()
    history.read_on()
    assert len(history.tables["public.docs"]) == 0


def test_the_memory_of_a_run_holds_no_vector(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "20261122T203438Z-f36a3d")
    for number in range(500):
        row = FailingRow(
            key=(str(number),),
            tenant="acme",
            text="",
            text_hash="t",
            vector_hash="v",
            checks=("noted",),
            vector=np.full(3_000, number, np.float32).tobytes(),
        )
        new = NewVector(row=row, vector=vector_of("x"), stored_as=f"{number:032x}")
        journal.replacing("public.docs", [new])
    journal.close()
    history = History(journal=find_journal("20261122T203438Z-f36a3d", tmp_path))
    tracemalloc.start()
    history.read_on()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(history.tables["public.docs"]) == 500
    assert kept < 500 * 1_500


def test_a_row_that_was_put_back_is_found_by_its_check_again(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 3)}) as table:
        chosen = settings(server)
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        rolled_back(database, chosen, tmp_path, run_of(done))
        again = repaired(database, chosen, tmp_path, keys=KEYS)
        assert again.counts() == {"selected": 3, "fixed": 3}
        assert table.wrong() == []
        with connect(parse_url(database, variable="DATABASE_URL")) as connection:
            assert connection.execute("SELECT count(*) FROM docs").fetchone() == (4,)
