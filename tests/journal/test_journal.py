"""The journal: every replaced vector, every outcome, on disk before the call returns; no text."""

from __future__ import annotations

import base64
import json
import stat
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from checks.redaction import redactor
from remediation.journal.journal import Journal, row_of
from remediation.journal.outcomes import Outcome, RowOutcome
from remediation.selection.batching import FailingRow
from remediation.writing.table_statements import NewVector
from tests.drivers.repairs import docs, environment, key_of, repaired, settings
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "a text that nobody may read here"


def _row(key: str = "1", tenant: str | None = "acme") -> FailingRow:
    return FailingRow(
        key=(key,),
        tenant=tenant,
        text=TEXT,
        text_hash="t1",
        vector_hash="v1",
        checks=("noted",),
        vector=b"\x00\x02\x00\x00old vector",
    )


def _fixed(row: FailingRow, written: str = "w1") -> RowOutcome:
    return RowOutcome(row=row, outcome=Outcome.FIXED, written_hash=written)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_replaced_vector_is_kept_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run")
    journal.replacing("public.docs", [NewVector(row=_row(), vector=np.ones(8, np.float32))])
    (event,) = _lines(journal.path)
    journal.close()
    assert base64.b64decode(event["vector"]) == _row().vector
    assert (event["event"], event["key"], event["tenant"]) == ("replacing", ["1"], "acme")


def test_fixed_rows_come_back_without_their_text(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run")
    hostile = _row("'; \\ \n \u2028 %s")
    failed = RowOutcome(row=_row("2"), outcome=Outcome.FAILED, reason="a reason")
    journal.outcomes("public.docs", [_fixed(hostile), failed])
    journal.outcomes("public.other", [_fixed(_row("3"))])
    (outcome,) = journal.fixed("public.docs")
    journal.close()
    row = row_of(outcome)
    assert (row.key, row.tenant, row.text_hash, row.checks) == (
        hostile.key,
        "acme",
        "t1",
        ("noted",),
    )
    assert (row.text, outcome["reason"], outcome["written_md5"]) == ("", "", "w1")


def test_neither_text_nor_secret_is_written_and_keys_stay_what_they_are(tmp_path: Path) -> None:
    redactor.add("sk-journal-9431")
    redactor.add("7431")
    journal = Journal(tmp_path / "run")
    said = RowOutcome(row=_row("74310"), outcome=Outcome.FAILED, reason="refused sk-journal-9431")
    journal.replacing("public.docs", [NewVector(row=_row(), vector=np.ones(8, np.float32))])
    journal.outcomes("public.docs", [said])
    journal.close()
    content = journal.path.read_text(encoding="utf-8")
    assert "sk-journal-9431" not in content
    assert TEXT not in content
    assert _lines(journal.path)[1]["key"] == ["74310"]


def test_a_line_cut_off_by_a_crash_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run")
    journal.outcomes("public.docs", [_fixed(_row("1"))])
    with journal.path.open("a") as file:
        file.write('{"event": "outcome", "table": "public.do\n')
    journal.outcomes("public.docs", [_fixed(_row("2"))])
    assert [row_of(one).key for one in journal.fixed("public.docs")] == [("1",), ("2",)]
    journal.close()


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "reports" / "run")
    journal.close()
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700


def test_a_full_disk_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").symlink_to("/dev/full")
    journal = Journal(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        journal.outcomes("public.docs", [_fixed(_row())])
    journal.close()


def test_a_repair_keeps_the_wrong_vectors_it_replaces(database: str, tmp_path: Path) -> None:
    keys = environment("acme")
    with docs(database, {"acme": (6, 2)}, "vector") as table, ProviderServer() as server:
        table.execute("UPDATE docs SET embedding = '[1.5,2]' WHERE id IN (2, 4)")
        done = repaired(database, settings(server), tmp_path, keys=keys)
        assert done.counts() == {"selected": 4, "fixed": 4}
        assert table.wrong() == []
    assert done.folder is not None
    content = (done.folder / "journal.jsonl").read_text(encoding="utf-8")
    events = _lines(done.folder / "journal.jsonl")
    replaced = {e["key"][0]: e["vector"] for e in events if e["event"] == "replacing"}
    first, second = events[:2]
    assert (first["event"], first["run"]) == ("run", done.folder.name)
    assert (second["event"], second["table"], second["embedding"]) == (
        "table",
        "public.docs",
        "embedding",
    )
    for event in events:
        if event["event"] == "outcome":
            # What was announced ahead of the write is what was stored.
            (ahead,) = (e for e in events if e["event"] == "replacing" and e["key"] == event["key"])
            assert ahead["writing_md5"] == event["written_md5"] is not None
    old = struct.pack(">HHff", 2, 0, 1.5, 2.0)
    assert {key: vector and base64.b64decode(vector) for key, vector in replaced.items()} == {
        "2": old,
        "4": old,
        "7": None,
        "8": None,
    }
    for key in replaced:
        kinds = [event["event"] for event in events if event.get("key") == [key]]
        assert kinds == ["replacing", "outcome"]
    assert "document" not in content
    assert key_of("acme") not in content
