"""A rollback puts back what a run replaced, byte for byte, and nothing that changed since."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import psycopg
import pytest

from checks.database.connection import connect
from checks.database.connection_url import parse_url
from checks.errors import CannotExamineError
from remediation.journal.journal import Journal
from remediation.journal.past_journals import find_journal
from remediation.rollback import table_rollback
from remediation.rollback.history import History
from remediation.selection.batching import FailingRow
from remediation.writing.table_statements import NewVector
from tests.builders.tables import role
from tests.drivers.repairs import docs, environment, repaired, settings
from tests.drivers.rollbacks import events_of, foreseen, rolled_back, run_of, server, stored
from tests.servers.provider_server import ProviderServer, vector_of

if TYPE_CHECKING:
    from pathlib import Path

    from remediation.journal.outcomes import Outcome

__all__ = ["server"]

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


def test_what_the_run_did_not_write_is_not_put_back_even_if_another_run_did(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    """Both runs are given the same vectors, so that these do not tell whose they are."""
    with docs(database, {"acme": (1, 6)}) as table:
        chosen = settings(server)
        with psycopg.connect(database) as other:
            other.execute("SELECT FROM docs WHERE id IN (3, 5) FOR UPDATE")
            first = repaired(database, chosen, tmp_path, keys=KEYS, lock_patience=0.5)
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
    database: str, tmp_path: Path, server: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_rollback, "PATIENCE_SECONDS", 0.5)
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
