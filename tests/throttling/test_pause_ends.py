"""What ends a pause, or a wait for keys, before its cause is gone: a signal, a lost lock."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from remediation.journal.outcomes import Outcome
from tests.drivers.repairs import docs, environment, opened, repaired, settings
from tests.servers.provider_server import ProviderServer, Reply, when_asked

if TYPE_CHECKING:
    from pathlib import Path

KEYS = environment("acme", "globex")
LOSE_LOCK = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_locks
JOIN pg_database AS d ON d.oid = database
WHERE locktype = 'advisory' AND datname = current_database()
"""


def test_a_pause_is_ended_by_an_interrupt_and_every_row_has_its_outcome(
    database: str, tmp_path: Path
) -> None:
    file = tmp_path / "pause"
    with docs(database, {"acme": (1, 200)}) as table, ProviderServer() as server:
        when_asked(server, 5, file.touch)
        chosen = settings(server, repair={"pause_file": str(file)})

        def interrupt(words: str) -> None:
            if words.startswith("the repair is paused"):
                os.kill(os.getpid(), signal.SIGINT)

        with opened(database, chosen, keys=KEYS) as repair:
            plan = repair.plan()
            with pytest.raises(KeyboardInterrupt):
                repair.run(plan, tmp_path, lambda _: None, interrupt)
            (result,) = repair.results
        account = result.account
        assert result.stopped == "the repair was interrupted"
        assert account.settled == account.selected
        assert account.count(Outcome.SKIPPED) > 0
        assert account.count(Outcome.FIXED) == 200 - len(table.wrong())
        assert table.wrong()


def test_an_interrupt_ends_the_wait_of_the_probe(database: str, tmp_path: Path) -> None:
    file = tmp_path / "pause"
    file.touch()
    with docs(database, {"acme": (1, 3)}), ProviderServer() as server:
        chosen = settings(server, repair={"pause_file": str(file)})
        with opened(database, chosen, keys=KEYS) as repair:
            plan = repair.plan()
            with pytest.raises(KeyboardInterrupt):
                repair.run(
                    plan, tmp_path, lambda _: None, lambda _: os.kill(os.getpid(), signal.SIGINT)
                )
            (result,) = repair.results
        assert result.stopped == "the repair was interrupted"
        assert server.requests == []


@pytest.mark.parametrize("asked", [0, 5])
def test_a_lock_that_is_lost_during_a_pause_ends_the_repair(
    database: str, tmp_path: Path, asked: int
) -> None:
    file = tmp_path / "pause"
    with docs(database, {"acme": (1, 200)}) as table, ProviderServer() as server:
        if asked:
            when_asked(server, asked, file.touch)
        else:
            file.touch()

        def lose(_: str) -> None:
            table.execute(LOSE_LOCK)

        chosen = settings(server, repair={"pause_file": str(file)})
        done = repaired(database, chosen, tmp_path, keys=KEYS, on_pause=lose)
        assert done.docs.stopped is not None
        assert "the connection that held the lock of public.docs was lost" in done.docs.stopped
        assert done.docs.account.count(Outcome.FIXED) == 200 - len(table.wrong()) < 200
        done.counts()


@pytest.mark.parametrize("probe", [1, 0], ids=["of the probe", "of the repair"])
def test_a_lock_that_is_lost_while_every_key_waits_ends_the_repair(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probe: int
) -> None:
    monkeypatch.setattr("remediation.throttling.pauses.EXPECTED_SECONDS", 0.0)
    with docs(database, {"acme": (1, 20)}) as table, ProviderServer() as server:
        server.always(Reply(status=429, headers={"retry-after": "110"}))
        chosen = settings(server, repair={"probe": probe})

        def lose(_: str) -> None:
            table.execute(LOSE_LOCK)

        done = repaired(database, chosen, tmp_path, keys=KEYS, on_pause=lose)
        assert done.docs.stopped is not None
        assert "the connection that held the lock of public.docs was lost" in done.docs.stopped
        assert done.counts() == {"selected": 20, "skipped": 20}
        assert len(server.requests) == 1
