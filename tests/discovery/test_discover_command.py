"""`python -m checks.discover` as a command: what it prints, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from checks.errors import CannotExamineError
from checks.exit_status import ExitStatus
from demo.postgres import create_database, drop_database
from embedding_integrity.command import main
from tests.builders.tables import run
from tests.drivers.discoveries import discovered, examined

REPOSITORY = Path(__file__).resolve().parents[2]


def command(folder: Path, url: str | None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "DATABASE_URL"}
    if url is not None:
        environment["DATABASE_URL"] = url
    return subprocess.run(
        [sys.executable, "-m", "checks.discover"],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def test_the_command_prints_a_file_that_pytest_takes(database: str, tmp_path: Path) -> None:
    run(
        database,
        'CREATE TABLE "Документы" (id int PRIMARY KEY, body text, embedding vector(3))',
        """INSERT INTO "Документы" VALUES (1, 'x', NULL)""",
    )
    (tmp_path / ".env").write_text(f"DATABASE_URL={database}\n", encoding="utf-8")
    done = command(tmp_path, None)
    assert done.returncode == ExitStatus.HOLDS, done.stderr
    password = urlsplit(database).password
    assert password is not None
    assert password not in done.stdout + done.stderr
    (finding,) = examined(database, done.stdout, tmp_path).findings
    assert finding.table == 'public."Документы"'


def test_both_names_of_the_door_take_the_same_options(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "checks.discover", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    with pytest.raises(SystemExit):
        main(["discover", "--help"])
    assert done.stdout == capfd.readouterr().out
    assert "--probe" in done.stdout


@pytest.mark.parametrize("url", [None, "", "mysql://root:hunter2222@db/x"])
def test_without_a_url_that_leads_to_postgresql_the_command_exits_with_4(
    tmp_path: Path, url: str | None
) -> None:
    (tmp_path / ".env").write_text("", encoding="utf-8")
    done = command(tmp_path, url)
    assert (done.returncode, done.stdout) == (ExitStatus.USAGE_ERROR, "")
    assert "DATABASE_URL" in done.stderr
    assert "hunter2222" not in done.stderr


def test_without_a_server_the_command_exits_with_10(tmp_path: Path) -> None:
    done = command(tmp_path, "postgresql://someone:hunter2222@127.0.0.1:1/nothing")
    assert (done.returncode, done.stdout) == (ExitStatus.NOTHING_EXAMINED, "")
    assert "cannot connect to database 'nothing'" in done.stderr
    assert "hunter2222" not in done.stderr


def test_a_database_without_embeddings_is_told_in_words(database: str) -> None:
    with pytest.raises(CannotExamineError, match="expected a column of embeddings in database"):
        discovered(database)
    run(database, "CREATE TABLE docs (id int PRIMARY KEY, body text)")
    with pytest.raises(CannotExamineError, match="found none in its 1 table or view"):
        discovered(database)


def test_a_database_without_the_extension_is_told_in_words(server_url: str) -> None:
    url = create_database(server_url, "without_extension")
    try:
        with pytest.raises(CannotExamineError, match="extension vector is not installed"):
            discovered(url)
    finally:
        drop_database(server_url, "without_extension")
