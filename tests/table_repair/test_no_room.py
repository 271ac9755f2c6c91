"""Where no room is left, on the disk or in memory, a repair ends before it writes a row."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from checks.errors import CannotExamineError
from remediation.journal.outcomes import Outcome
from remediation.selection import selected_keys
from tests.drivers.repairs import docs, environment, opened, repaired, settings
from tests.servers.provider_server import ProviderServer
from tests.servers.small_disk import files_of_at_most

if TYPE_CHECKING:
    from pathlib import Path


def test_a_plan_whose_keys_find_no_room_says_so_and_the_next_one_goes_on(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selected_keys, "IN_MEMORY_BYTES", 1)
    with docs(database, {"acme": (2, 20)}) as table, ProviderServer() as server:
        chosen, keys = settings(server), environment("acme")
        with opened(database, chosen, keys=keys) as repair:
            monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
            with pytest.raises(CannotExamineError, match="set TMPDIR to a folder that has some"):
                repair.plan()
        assert server.requests == []
        monkeypatch.setattr(tempfile, "tempdir", None)
        done = repaired(database, chosen, tmp_path, keys=keys)
        assert table.wrong() == []
    assert done.docs.account.count(Outcome.FIXED) == 20


def test_a_repair_whose_keys_fill_the_disk_ends_before_the_first_write(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selected_keys, "IN_MEMORY_BYTES", 1)
    with docs(database, {"acme": (2, 2000)}) as table, ProviderServer() as server:
        with opened(database, settings(server), keys=environment("acme")) as repair:
            plan = repair.plan()
            with files_of_at_most(1500):
                repair.run(plan, tmp_path, lambda _: None)
            (result,) = repair.results
        assert "File too large" in (result.stopped or "")
        assert len(server.requests) == 1, "the probe, and nothing else"
        assert len(table.wrong()) == 2000


def test_a_repair_that_gets_no_further_thread_says_what_it_lacks(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: ThreadPoolExecutor) -> None:
        raise RuntimeError("can't start new thread")

    with docs(database, {"acme": (2, 20)}) as table, ProviderServer() as server:
        with opened(database, settings(server), keys=environment("acme")) as repair:
            plan = repair.plan()
            monkeypatch.setattr(ThreadPoolExecutor, "_adjust_thread_count", refused)
            repair.run(plan, tmp_path, lambda _: None)
            (result,) = repair.results
        assert "no memory is left" in (result.stopped or "")
        assert result.account.selected == 20
        assert server.requests == []
        assert len(table.wrong()) == 20
