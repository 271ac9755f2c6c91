"""`embedding-integrity prevent`: what it prints, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checks.exit_status import ExitStatus
from embedding_integrity.doors.prevent import DOWN, UP, main
from tests.builders.tables import run, table
from tests.drivers.migrations import catalog, psql

if TYPE_CHECKING:
    from pathlib import Path

TABLES = (
    "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding vector(3))",
    "CREATE TABLE notes (id int PRIMARY KEY, body text, embedding vector(3))",
    "CREATE SCHEMA dash",
)


@pytest.fixture
def folder(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with settings for two tables, from which the command is run."""
    run(database, *TABLES)
    (tmp_path / "integrity.toml").write_text(table() + table("notes"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.delenv("INTEGRITY_CONFIG", raising=False)
    return tmp_path


def test_what_is_printed_can_be_run_and_taken_back(
    database: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = catalog(database)
    assert main(["--schema=dash"]) == ExitStatus.HOLDS
    up = capsys.readouterr().out
    assert catalog(database) == before
    assert psql(database, up).returncode == 0
    assert ("relation", "dash.embedding_integrityv0") in catalog(database)
    assert main(["--down", "--schema=dash"]) == ExitStatus.HOLDS
    assert psql(database, capsys.readouterr().out).returncode == 0
    assert catalog(database) == before
    assert main([f"--output={folder / 'sql'}", "--schema=dash"]) == ExitStatus.HOLDS
    assert (folder / "sql" / UP).read_text(encoding="utf-8") == up
    assert "DROP VIEW" in (folder / "sql" / DOWN).read_text(encoding="utf-8")


@pytest.mark.usefixtures("folder")
def test_a_single_table_leaves_the_others_and_the_view_of_all_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--table=notes"]) == ExitStatus.HOLDS
    script = capsys.readouterr().out
    assert '"notes"' in script
    assert '"docs"' not in script
    assert "VIEW" not in script


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--table=nots"], ExitStatus.USAGE_ERROR, "is not declared"),
        (["--config=none.toml"], ExitStatus.USAGE_ERROR, "no such file"),
        (["--schema=a.b"], ExitStatus.USAGE_ERROR, "expected one name"),
        (["--schema=gone"], ExitStatus.USAGE_ERROR, "schema gone does not exist"),
        (["--output=integrity.toml"], ExitStatus.USAGE_ERROR, "cannot write"),
    ],
)
def test_wrong_usage_ends_with_4_and_says_what_is_wrong(
    arguments: list[str], status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == status
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.out == ""


@pytest.mark.usefixtures("folder")
def test_an_unknown_option_ends_with_4_too() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--no-such-option"])
    assert ended.value.code == ExitStatus.USAGE_ERROR


def test_what_cannot_be_looked_at_is_no_migration(
    database: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(database, "ALTER TABLE notes DROP body")
    assert main([]) == ExitStatus.FAILS
    shown = capsys.readouterr()
    assert "nothing is prevented: public.notes: text" in shown.out
    assert "public.notes: text" in shown.err
    assert main(["--table=notes"]) == ExitStatus.NOTHING_EXAMINED
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    assert main([f"--output={folder}"]) == ExitStatus.NOTHING_EXAMINED
    assert capsys.readouterr().out == ""
    assert not (folder / UP).exists()
