"""What cannot be put back safely is refused before anything is written."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING

import psycopg
import pytest

from checks.database.server import DatabaseIdentity
from remediation.journal.journal import Journal
from remediation.journal.past_journals import JournalDamagedError, PastJournal
from remediation.journal.sealed_lines import line_of, seal_of, sealed, sealed_event_of
from remediation.rollback.history import History
from remediation.run.preflight import RepairRefusedError
from tests.builders.tables import run
from tests.drivers.repairs import docs, environment, repaired, settings
from tests.drivers.rollbacks import opened as opened_rollback
from tests.drivers.rollbacks import rolled_back, run_of, server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers.provider_server import ProviderServer

__all__ = ["server"]

KEYS = environment("acme", "globex")
IDENTITY = DatabaseIdentity(system_identifier=1, database="any", database_oid=1)


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
        pytest.raises(JournalDamagedError, match="does not begin with that run"),
    ):
        rolled_back(database, settings(server), tmp_path, folder.name)


def _flip(line: bytes, place: int) -> bytes:
    return line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :]


def _other_vector(line: bytes) -> bytes:
    """Another vector that is as well-formed as the true one, in a line that looks as ever."""
    event = json.loads(line)
    if event["vector"] is None:
        return line
    vector = base64.b64decode(event["vector"])
    event["vector"] = base64.b64encode(vector[:-4] + b"\x3f\x80\0\0").decode()
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


DAMAGES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a bit of a key": lambda lines: [
        _flip(line, line.index(b'"key":["') + 8) if b'"replacing"' in line else line
        for line in lines
    ],
    "another vector": lambda lines: [
        _other_vector(line) if b'"replacing"' in line else line for line in lines
    ],
    "a line of garbage": lambda lines: [*lines[:3], b"\x00\xff{\n", *lines[3:]],
    "a line cut in its midst": lambda lines: [*lines[:3], lines[3][:40] + b"\n", *lines[4:]],
    "a lost line break": lambda lines: [*lines[:3], lines[3][:-1], *lines[4:]],
    "all but the header": lambda lines: [lines[0], *(b"\n" for _ in lines[1:])],
    "an empty file": lambda _: [],
    "an end that is gone": lambda lines: lines[:-3],
    "a lost line": lambda lines: [*lines[:3], *lines[4:]],
    "a line that is there twice": lambda lines: [*lines[:4], *lines[3:]],
    "two lines that changed places": lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]],
    "all but its beginning": lambda lines: [*lines[:2], lines[2][:60]],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_an_error_before_anything_is_put_back(
    database: str, tmp_path: Path, server: ProviderServer, damage: str
) -> None:
    with docs(database, {"acme": (2, 2)}) as table:
        table.execute("UPDATE docs SET embedding = array_fill(0, ARRAY[8])::vector WHERE id < 3")
        chosen = settings(server, provider={"concurrency": 1})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.folder is not None
        path, before = done.folder / "journal.jsonl", table.versions()
        # As every run that was not killed leaves it.
        (done.folder / "incident.json").write_text("{}", encoding="utf-8")
        path.write_bytes(b"".join(DAMAGES[damage](path.read_bytes().splitlines(keepends=True))))
        with pytest.raises(JournalDamagedError, match=r"restore .*journal\.jsonl from a copy"):
            rolled_back(database, chosen, tmp_path, run_of(done))
        assert table.versions() == before


def test_any_damaged_byte_of_any_line_is_seen() -> None:
    first = sealed(line_of({"event": "run"}), None)
    event = {"event": "replacing", "key": ["a", "ž"], "beside": [None, "x"]}
    line, before = sealed(line_of(event), seal_of(first)), seal_of(first)
    assert sealed_event_of(line, before) == {**event, "crc32_so_far": seal_of(line)}
    flipped = [_flip(line, place) for place in range(len(line) - 1)]
    assert [other for other in flipped if sealed_event_of(other, before) is not None] == []


def test_no_line_can_be_missing_twice_there_or_at_another_place(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 3), "globex": (0, 2)}):
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
    assert done.folder is not None
    path = done.folder / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert _is_whole(path, lines)
    for place, line in enumerate(lines):
        others = [*lines[:place], *lines[place + 1 :]]
        assert not _is_whole(path, others)
        for elsewhere in range(len(lines)):
            assert not _is_whole(path, [*lines[:elsewhere], line, *lines[elsewhere:]])
            moved = [*others[:elsewhere], line, *others[elsewhere:]]
            assert moved == lines or not _is_whole(path, moved)


def _is_whole(path: Path, lines: list[bytes]) -> bool:
    path.write_bytes(b"".join(lines))
    journal = PastJournal(run_id=path.parent.name, path=path)
    history = History(journal=journal)
    try:
        history.read_on()
    except JournalDamagedError:
        return False
    return history.ended and journal.header() is not None


@pytest.mark.parametrize("cut", [1, 2, 12, 40])
def test_what_a_crash_or_a_full_disk_cut_off_is_no_damage(tmp_path: Path, cut: int) -> None:
    folder = tmp_path / "20261122T203438Z-f36a3d"
    journal = Journal(folder)
    journal.begin(folder.name, IDENTITY)
    journal.close()
    path = folder / "journal.jsonl"
    first, end = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + end[:-cut])
    past = PastJournal(run_id=folder.name, path=path)
    History(journal=past).read_on()
    # Whoever takes the run up goes on behind it.
    journal = Journal(folder)
    journal.begin(folder.name, IDENTITY)
    journal.close()
    history = History(journal=past)
    history.read_on()
    assert history.ended
    assert [event["event"] for _, event in past.events()] == ["run", "run", "end"]


def test_a_journal_of_an_earlier_version_has_no_seals_and_is_put_back(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 2)}):
        chosen = settings(server)
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.folder is not None
        path = done.folder / "journal.jsonl"
        path.write_bytes(re.sub(rb',"crc32_so_far":[0-9]+', b"", path.read_bytes()))
        # What its workers sent is taken in by this version.
        Journal(done.folder).close()
        undone = rolled_back(database, chosen, tmp_path, run_of(done))
        assert undone.counts() == {"selected": 2, "restored": 2}


def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run")
    with pytest.raises(OSError, match="its run is still writing it"):
        Journal(tmp_path / "run")
    journal.close()
    Journal(tmp_path / "run").close()


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
