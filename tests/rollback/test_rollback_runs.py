"""Whole runs with --rollback: what a person types, what pytest answers, what is in the database."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.drivers.runs import MISSING, ROWS, SETTINGS, TENANTS, Site, fill, missing, stale
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ("pytester",)

WHOLE: dict[str | None, int] = dict.fromkeys(TENANTS, ROWS)
ALL = 3 * MISSING


def folders(site: Site) -> list[Path]:
    """The folders of the runs so far, the oldest first; their names tell seconds alone."""
    found = (path for path in (site.folder / "incidents").iterdir() if path.is_dir())
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def repaired(site: Site) -> str:
    """Fill the table and repair it; the run's id."""
    fill(site.database, WHOLE)
    run = site.run("--remediate")
    assert run.status == 0, run.output
    (folder,) = folders(site)
    return folder.name


def test_a_rollback_is_shown_then_made_and_the_rows_fail_again(provided_site: Site) -> None:
    site = provided_site
    run_id = repaired(site)
    shown = site.run(f"--rollback={run_id}", "--dry-run")
    assert shown.status == 0, shown.output
    assert f"public.insights: {ALL}/{ALL} rows would be put back" in shown.output
    assert "dry run: nothing was written" in shown.output
    assert missing(site.database) == {}
    assert len(folders(site)) == 1
    run = site.run(f"--rollback={run_id}")
    assert run.status == 1, run.output
    assert f"public.insights: {ALL}/{ALL} rows put back" in run.output
    assert "tenants: 'acme' 4 of 12, 'globex' 4 of 12, 'initech' 4 of 12" in run.output
    assert missing(site.database) == dict.fromkeys(TENANTS, MISSING)
    _, folder = folders(site)
    report = json.loads((folder / "incident.json").read_text(encoding="utf-8"))
    assert (report["mode"], report["rolls_back"]) == ("rollback", run_id)
    assert report["result"] == "rolled_back"
    assert sum(line["restored"] for line in report["repair"]["outcomes"]) == ALL
    page = (folder / "incident.html").read_text(encoding="utf-8")
    assert f"{ALL}/{ALL} rows put back as they were before run {run_id}" in page
    assert f"incident report: {folder / 'incident.html'}" in run.output
    # Undone in its turn, from its own journal.
    assert site.run(f"--rollback={folder.name}", "--tenant=acme").status == 0
    assert missing(site.database) == {"globex": MISSING, "initech": MISSING}
    assert stale(site.database) == []


@pytest.mark.parametrize(
    ("run_id", "words"),
    [
        ("../../etc", "'../../etc' is no run's id; expected one such as"),
        ("/tmp", "'/tmp' is no run's id"),
        ("", "'' is no run's id"),
        ("20261122T203438Z-f36a3e", "did you mean 20261122T203438Z-f36a3d?"),
        ("19990101T000000Z-000000", "the latest there are 20261122T203438Z-f36a3d"),
    ],
)
def test_a_run_that_is_not_there_is_a_usage_error_that_names_others(
    site: Site, run_id: str, words: str
) -> None:
    folder = site.folder / "incidents" / "20261122T203438Z-f36a3d"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_text("", encoding="utf-8")
    run = site.run(f"--rollback={run_id}")
    assert run.status == 4, run.output
    assert words in run.output


def test_a_rollback_beside_a_repair_is_a_usage_error(site: Site) -> None:
    run = site.run("--remediate", "--rollback=20261122T203438Z-f36a3d")
    assert run.status == 4
    assert "--rollback and --remediate are two runs" in run.output


def test_a_rollback_of_another_database_is_refused_and_the_checks_run_all_the_same(
    provided_site: Site, bare_database: str
) -> None:
    site = provided_site
    run_id = repaired(site)
    with psycopg.connect(bare_database, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
    fill(bare_database, WHOLE, missing=0)
    site.monkeypatch.setenv("DATABASE_URL", bare_database)
    run = site.run(f"--rollback={run_id}")
    assert run.status == 11, run.output
    assert f"no rollback: run {run_id} wrote to another database" in run.output
    assert missing(bare_database) == {}
    _, folder = folders(site)
    page = (folder / "incident.html").read_text(encoding="utf-8")
    assert "No rollback" in page
    assert "The rollback stopped early" in page


def test_a_damaged_journal_ends_a_rollback_with_its_own_status(provided_site: Site) -> None:
    site = provided_site
    run_id = repaired(site)
    journal = site.folder / "incidents" / run_id / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(
        b"".join([*lines[:4], lines[4].replace(b'"key":["', b'"key":["9'), *lines[5:]])
    )
    run = site.run(f"--rollback={run_id}")
    assert run.status == 12, run.output
    assert f"no rollback: the journal of run {run_id} is damaged: its line 5 is not" in run.output
    assert "nothing to put back" not in run.output
    assert missing(site.database) == {}


@pytest.mark.thorough
def test_a_table_that_is_no_longer_declared_stops_the_rollback(provided_site: Site) -> None:
    site = provided_site
    run_id = repaired(site)
    with psycopg.connect(site.database, autocommit=True) as connection:
        connection.execute("CREATE TABLE other AS SELECT * FROM insights")
        connection.execute("ALTER TABLE other ADD PRIMARY KEY (id)")
    site.settings(SETTINGS.replace("public.insights", "public.other"))
    run = site.run(f"--rollback={run_id}", "--dry-run")
    assert run.status == 11, run.output
    assert "the settings declare no table public.insights any more" in run.output
    assert site.run(f"--rollback={run_id}", "--table=public.other").status == 0


@pytest.mark.thorough
def test_a_killed_rollback_is_run_again_and_converges(provided_site: Site) -> None:
    site = provided_site
    run_id = repaired(site)
    with psycopg.connect(site.database, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER slow BEFORE UPDATE ON insights FOR EACH ROW EXECUTE FUNCTION slow()"
        )
        with site.start(f"--rollback={run_id}") as rollback:
            wait_until(lambda: bool(missing(site.database)))
            rollback.kill()
            assert rollback.wait(60) == -signal.SIGKILL
        assert 0 < sum(missing(site.database).values()) < ALL
        connection.execute("DROP TRIGGER slow ON insights")
    run = site.run(f"--rollback={run_id}")
    assert run.status == 1, run.output
    assert missing(site.database) == dict.fromkeys(TENANTS, MISSING)
