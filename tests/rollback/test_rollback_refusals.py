"""What cannot be put back safely is refused before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from remediation.run.preflight import RepairRefusedError
from tests.repairs import docs, environment, repaired, settings
from tests.rollbacks import opened as opened_rollback
from tests.rollbacks import rolled_back, run_of, server
from tests.tables import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.provider_server import ProviderServer

__all__ = ["server"]

KEYS = environment("acme", "globex")


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
