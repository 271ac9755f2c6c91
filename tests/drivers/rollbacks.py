"""Rolls a run back in this process, and tells whether rows are what they were, byte for byte."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from checks.database.connection_url import parse_url
from checks.examination.examination import examine
from checks.examination.selection import Selection
from remediation.journal.outcomes import Outcome
from remediation.journal.past_journals import find_journal
from remediation.journal.sealed_lines import seal_of, sealed
from remediation.rollback.rollback import open_rollback
from remediation.run.repair_run import new_run_id
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from checks.settings.integrity_toml import Settings
    from remediation.rollback.rollback import Rollback
    from remediation.table_repair.result import TableRepair
    from tests.drivers.repairs import Docs


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


def cut_down(path: Path, holding: bytes) -> int:
    """Leave of a journal its first two lines and those that hold a text; how many these are."""
    lines = path.read_bytes().splitlines()
    kept = [line for line in lines[2:] if holding in line]
    seal, content = None, b""
    for line in [*lines[:2], *kept]:
        content += sealed(line.rpartition(b",")[0] + b"}", seal)
        seal = seal_of(content)
    path.write_bytes(content)
    return len(kept)


@contextmanager
def opened(
    url: str,
    chosen: Settings,
    folder: Path,
    run_id: str,
    *,
    tables: Sequence[str] | None = None,
    tenants: tuple[str, ...] | None = None,
) -> Iterator[Rollback]:
    """A rollback of a run whose reports are in `folder`."""
    place = parse_url(url, variable="DATABASE_URL")
    selection = Selection(tables=tables, tenants=tenants)
    with open_rollback(
        run_id=new_run_id(),
        journal=find_journal(run_id, folder),
        settings=chosen,
        environment={},
        examination=examine(place, chosen, selection),
        selection=selection,
        read_place=place,
    ) as rollback:
        yield rollback


@dataclass(frozen=True, kw_only=True, slots=True)
class Undone:
    """A rollback that has ended."""

    run_id: str
    results: tuple[TableRepair, ...]

    def counts(self) -> dict[str, int]:
        """Rows of the one table by outcome, those without any left out; `selected` among them."""
        (result,) = self.results
        assert result.stopped is None, result.stopped
        counts = {str(outcome): result.account.count(outcome) for outcome in Outcome}
        assert result.account.selected == sum(counts.values())
        return {"selected": result.account.selected, **{k: n for k, n in counts.items() if n}}

    def reasons(self) -> set[str]:
        return {group.reason for result in self.results for group in result.account.groups} - {""}


def rolled_back(
    url: str,
    chosen: Settings,
    folder: Path,
    run_id: str,
    *,
    tables: Sequence[str] | None = None,
    tenants: tuple[str, ...] | None = None,
) -> Undone:
    """Roll a run back; what was foreseen must be what is done where nobody is in the way."""
    with opened(url, chosen, folder, run_id, tables=tables, tenants=tenants) as rollback:
        rollback.run(folder, lambda _: None)
        return Undone(run_id=rollback.run_id, results=tuple(rollback.results))


def foreseen(url: str, chosen: Settings, folder: Path, run_id: str) -> Undone:
    """What a rollback would do."""
    with opened(url, chosen, folder, run_id) as rollback:
        return Undone(run_id=rollback.run_id, results=tuple(rollback.foresee()))
