"""A migration script that adds an embedding column fills it: the story of `axiom_chunks`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest

import remediation
from checks.errors import SettingsError
from tests.builders import tables
from tests.drivers import repairs
from tests.drivers.repairs import Docs, environment, examined, key_of
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TABLE = "public.axiom_chunks"
CREATE = "CREATE TABLE axiom_chunks (id integer PRIMARY KEY, tenant text, body text)"
FILL = (
    "INSERT INTO axiom_chunks SELECT n, (ARRAY['acme', 'globex'])[1 + n % 2], 'chunk ' || n"
    " FROM generate_series(1, 12) AS n"
)
ADD = "ALTER TABLE axiom_chunks ADD COLUMN embedding vector(8)"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ProviderServer]:
    """A provider that knows the keys of two tenants, which are in the environment."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment("acme", "globex").items():
        monkeypatch.setenv(name, value)
    with ProviderServer(keys={key_of("acme"), key_of("globex")}) as server:
        yield server


def declared(server: ProviderServer, folder: Path) -> Path:
    """A settings file in which the table is planned, and need not be there yet."""
    path = folder / "integrity.toml"
    path.write_text(
        f'[provider]\nbase_url = "{server.base_url}"\ndimensions = 8\n'
        '[keys]\nenv = "KEY_{tenant}"\n'
        + tables.table(TABLE, tenant="tenant", dimensions=8, required=False)
    )
    return path


def test_a_table_that_was_declared_before_it_was_there_is_filled_by_the_migration_that_adds_it(
    database: str, provider: ProviderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = declared(provider, tmp_path)
    # The URL that is handed over wins.
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nowhere")
    monkeypatch.setenv("REMEDIATION_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nowhere")
    tables.run(database, "CREATE TABLE other (id integer)")
    with pytest.raises(
        remediation.BackfillError, match=r"is not there.*commit the migration's DDL"
    ):
        remediation.backfill(database, table=TABLE)

    tables.run(database, CREATE, FILL, ADD)
    result = remediation.backfill(database, table=TABLE, settings=path)
    assert (result.selected, result.fixed, result.failed) == (12, 12, 0)
    assert result.complete
    assert result.report is not None
    incident = json.loads(result.report.with_name("incident.json").read_text())
    assert (incident["run_id"], incident["result"]) == (result.run_id, "whole")
    chunks = Docs(url=database, table=TABLE)
    assert chunks.execute(
        "SELECT count(*), count(DISTINCT embedding::text) FROM axiom_chunks"
        " WHERE embedding IS NOT NULL"
    ) == [(12, 12)]
    chunks.close()
    assert {request.key for request in provider.requests} == {key_of("acme"), key_of("globex")}

    again = remediation.backfill(database, table=TABLE)
    assert (again.selected, again.complete, again.report) == (0, True, None)


@pytest.mark.parametrize("ddl", [(CREATE, FILL, ADD), (ADD,)], ids=["created", "altered"])
def test_a_migration_that_has_not_committed_is_told_so_and_can_go_on(
    database: str, provider: ProviderServer, tmp_path: Path, ddl: tuple[str, ...]
) -> None:
    path = declared(provider, tmp_path)
    tables.run(database, "CREATE TABLE other (id integer)")
    if ddl == (ADD,):
        tables.run(database, CREATE, FILL)
    with psycopg.connect(database) as migration:
        for statement in ddl:
            migration.execute(statement)
        with pytest.raises(remediation.BackfillError, match="commit the migration's DDL first"):
            remediation.backfill(database, table=TABLE, settings=path)
        migration.execute("SELECT embedding FROM axiom_chunks")
    assert provider.requests == []
    assert remediation.backfill(database, table=TABLE, settings=path).fixed == 12


def test_the_keys_of_the_entry_are_enough_and_what_is_left_is_counted(
    database: str, provider: ProviderServer
) -> None:
    tables.run(database, CREATE, FILL, ADD)
    entry = {
        "text": "body",
        "tenant": "tenant",
        "dimensions": 8,
        "provider": {"base_url": provider.base_url},
        "keys": {"env": "KEY_{tenant}"},
        "repair": {"max_rows": 5},
    }
    result = remediation.backfill(database, table=TABLE, settings=entry, report_dir="elsewhere")
    assert (result.selected, result.fixed, result.skipped) == (12, 5, 7)
    assert not result.complete
    assert result.stopped is not None
    assert "5 rows" in result.stopped
    assert result.report is not None
    assert "elsewhere" in result.report.parts
    with pytest.raises(SettingsError, match="txt"):
        remediation.backfill(database, table=TABLE, settings={**entry, "txt": "body"})


def test_parsed_settings_do_and_a_table_that_nobody_can_fill_is_an_error(
    database: str, provider: ProviderServer
) -> None:
    tables.run(database, "CREATE TABLE docs (id integer, tenant text, body text, hidden boolean)")
    chosen = repairs.settings(provider)
    with pytest.raises(remediation.BackfillError, match="embedding"):
        remediation.backfill(database, table=repairs.TABLE, settings=chosen)
    tables.run(
        database,
        "ALTER TABLE docs ADD COLUMN embedding vector(8)",
        "INSERT INTO docs VALUES (1, 'acme', 'one', false)",
    )
    with pytest.raises(remediation.BackfillError, match="no primary key"):
        remediation.backfill(database, table=repairs.TABLE, settings=chosen)
    with pytest.raises(
        remediation.BackfillError, match=r"'dox' is not declared; declared are: public\.docs"
    ):
        remediation.backfill(database, table="dox", settings=chosen)
    assert examined(database, chosen).failing("completeness") == 1
