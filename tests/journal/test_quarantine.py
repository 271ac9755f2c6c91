"""A text that the provider refused is not sent again until it changes; the journals remember it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from remediation.journal.outcomes import Outcome
from remediation.journal.past_journals import find_journal
from remediation.journal.quarantine import Quarantine, recall
from tests.drivers.repairs import Done, docs, environment, opened, settings
from tests.drivers.repairs import repaired as repaired_once
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = environment("acme", "globex")


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer() as provider:
        provider.poison("document 3 of acme")
        yield provider


def repaired(url: str, chosen: Any, folder: Path) -> Done:
    """A repair that remembers what the journals in its folder of reports do."""
    return repaired_once(url, chosen, folder, keys=KEYS, quarantine=recall(folder))


def reason_of(done: Done) -> str:
    (reason,) = done.reasons(Outcome.QUARANTINED)
    return reason


def test_a_refused_text_is_not_sent_again_and_costs_nothing(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 6)}):
        chosen = settings(server)
        first = repaired(database, chosen, tmp_path)
        assert first.counts() == {"selected": 6, "fixed": 5, "quarantined": 1}
        assert first.folder is not None
        asked = len(server.requests)
        with opened(database, chosen, keys=KEYS, quarantine=recall(tmp_path)) as repair:
            (planned,) = repair.plan().tables
        assert (planned.quarantined, planned.rows, planned.requests) == (1, 0, 0)
        assert (planned.probe_requests, planned.tokens) == (0, 0)
        second = repaired(database, chosen, tmp_path)
        assert len(server.requests) == asked
        assert second.counts() == {"selected": 1, "quarantined": 1}
        assert second.docs.usage.requests == 0
        said = reason_of(second)
        assert said.startswith(f"quarantined in run {first.folder.name}, not sent again while")
        assert said.endswith(reason_of(first))
        # The run that asked is named for ever after, not the one that only remembered.
        assert reason_of(repaired(database, chosen, tmp_path)) == said
        assert len(server.requests) == asked


def test_it_is_sent_again_when_its_text_its_model_or_its_key_is_another(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 3)}) as table:
        chosen = settings(server)
        repaired(database, chosen, tmp_path)
        other = settings(server, provider={"model": "another-model"}, repair={"probe": 0})
        with opened(database, other, keys=KEYS, quarantine=recall(tmp_path)) as repair:
            assert repair.plan().tables[0].quarantined == 0
        table.execute("UPDATE docs SET id = 33 WHERE id = 3")
        with opened(database, chosen, keys=KEYS, quarantine=recall(tmp_path)) as repair:
            assert repair.plan().tables[0].quarantined == 0
        table.execute("UPDATE docs SET id = 3, body = 'harmless' WHERE id = 33")
        assert repaired(database, chosen, tmp_path).counts() == {"selected": 1, "fixed": 1}
        # And once it was fixed, the old refusal of the same text means nothing any more.
        table.execute("UPDATE docs SET body = 'document 3 of acme', embedding = NULL WHERE id = 3")
        asked = len(server.requests)
        assert repaired(database, chosen, tmp_path).counts() == {"selected": 1, "quarantined": 1}
        assert len(server.requests) > asked


def test_what_we_refuse_ourselves_needs_no_memory(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 1)}) as table:
        table.execute("UPDATE docs SET body = ' ', note = 'bad' WHERE id = 2")
        custom = [{"name": "noted", "failing_when": "note = 'bad'", "remedy": "re-embed"}]
        chosen = settings(server, table={"custom": custom})
        repaired(database, chosen, tmp_path)
        done = repaired(database, chosen, tmp_path)
        assert reason_of(done) == "it has no text to embed (NULL or blank)"


def test_a_text_beyond_a_limit_of_the_settings_is_sent_once_the_limit_allows_it(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (0, 2)}) as table:
        table.execute("UPDATE docs SET body = repeat('long ', 30) WHERE id = 2")
        low = settings(server, repair={"tokens_per_minute": 40})
        first = repaired(database, low, tmp_path)
        assert first.counts() == {"selected": 2, "fixed": 1, "quarantined": 1}
        assert "tokens_per_minute = 40" in reason_of(first)
        second = repaired(database, settings(server), tmp_path)
        assert second.counts() == {"selected": 1, "fixed": 1}


def test_a_journal_that_cannot_be_read_is_told_and_the_others_count(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (1, 6)}):
        chosen = settings(server)
        first = repaired(database, chosen, tmp_path)
        assert first.folder is not None
        with (first.folder / "journal.jsonl").open("ab") as journal:
            journal.write(b'{"event": "outcome", "outcome": "quarantined", "sent_md5"\n\xff\xfe\n')
            journal.write(b'{"event": "outcome", "outcome": "quarantined", "sent_md5": 1}\n[1]\n')
            journal.write(b'{"event": "outcome", "outcome": "quarantined"')
        (tmp_path / "20261122T203438Z-f36a3d" / "journal.jsonl").mkdir(parents=True)
        (tmp_path / "not-a-run").mkdir()
        remembered = recall(tmp_path)
        assert remembered.unreadable == (
            "the journal of run 20261122T203438Z-f36a3d cannot be read (it is no file): rows that"
            " it quarantined may be sent again",
        )
        done = repaired(database, chosen, tmp_path)
        assert done.counts() == {"selected": 1, "quarantined": 1}
        assert done.plan.notes == remembered.unreadable


def test_no_reports_mean_no_memory(tmp_path: Path) -> None:
    assert recall(tmp_path / "none") == Quarantine()


def test_what_has_no_end_in_another_s_folder_is_no_journal(tmp_path: Path) -> None:
    folder = tmp_path / "20261122T203438Z-f36a3d"
    folder.mkdir()
    os.mkfifo(folder / "journal.jsonl")
    (words,) = recall(tmp_path).unreadable
    assert "cannot be read (it is no file)" in words
    with pytest.raises(OSError, match="it is no file"):
        find_journal(folder.name, tmp_path).header()
