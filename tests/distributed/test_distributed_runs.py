"""Whole runs with --distributed: repaired, killed and rolled back; and without a schema."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from checks.database.connection_url import parse_url
from embedding_integrity.doors.worker import main
from remediation.distributed.shared.schema import install
from tests.builders.tables import rows
from tests.drivers.runs import ROWS, TENANTS, fill, missing, stale
from tests.drivers.workers import Site as Workers
from tests.faults.pooler import REFUSAL, pooler
from tests.servers.endpoints import endpoint
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.drivers.runs import Site

pytest_plugins = ("pytester",)

ALL = "SELECT id, embedding::text FROM public.insights ORDER BY id"
OBJECTS = (
    "SELECT oid::regclass::text FROM pg_class UNION SELECT nspname FROM pg_namespace ORDER BY 1"
)


def test_a_killed_coordinator_s_workers_stop_and_what_they_replaced_is_put_back(
    provided_site: Site,
) -> None:
    site = provided_site
    fill(site.database, dict.fromkeys(TENANTS, ROWS))
    with (site.folder / "integrity.toml").open("a", encoding="utf-8") as settings:
        settings.write("[repair]\nprobe = 0\n")
    rows(
        site.database,
        "UPDATE public.insights SET embedding = array_fill(0, ARRAY[1536])::vector"
        " WHERE embedding IS NOT NULL RETURNING id",
    )
    before = rows(site.database, ALL)
    install(parse_url(site.database, variable="DATABASE_URL"))
    workers = Workers(folder=site.folder, database=site.database)
    with endpoint(site.keys, latency=0.3) as slow:
        site.monkeypatch.setenv("OPENAI_BASE_URL", slow.base_url)
        with workers.worker_here(), site.start("--remediate", "--distributed") as run:
            wait_until(lambda: rows(site.database, ALL) != before)
            run.send_signal(signal.SIGKILL)
            run.wait(60)
            wait_until(
                lambda: (
                    rows(
                        site.database, "SELECT count(*) FROM embedding_integrity.procrastinate_jobs"
                    )
                    == [(0,)]
                )
            )
            assert slow.stats().requests < len(TENANTS) * ROWS / 3
    assert rows(site.database, ALL) != before
    (killed,) = (site.folder / "incidents").glob("*/journal.jsonl")
    back = site.run(f"--rollback={killed.parent.name}")
    assert back.status == 1, back.output
    assert rows(site.database, ALL) == before
    assert site.provider is not None
    site.monkeypatch.setenv("OPENAI_BASE_URL", site.provider.base_url)
    with workers.worker_here():
        done = site.run("--remediate", "--distributed")
    assert done.status == 0, done.output
    assert f"public.insights: {len(TENANTS) * ROWS}/{len(TENANTS) * ROWS} rows" in done.output
    assert missing(site.database) == {}
    assert stale(site.database) == []
    for path, text in site.everything_written():
        assert not any(key in text for key in site.keys.values()), path


def test_the_schema_is_installed_and_removed_with_nothing_left_behind(
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database)
    (tmp_path / "integrity.toml").write_text('[[tables]]\nname = "docs"\ntext = "body"\n')
    before = rows(database, OBJECTS)
    assert main([]) == 4
    assert "schema embedding_integrity is not in this database" in capsys.readouterr().err
    assert main(["--install"]) == 0
    assert main(["--install"]) == 0
    assert "was there already" in capsys.readouterr().out
    assert main(["--uninstall"]) == 0
    assert rows(database, OBJECTS) == before
    assert main(["--uninstall"]) == 0
    with pytest.raises(SystemExit):
        main(["--sweep=7 minutes", "--max-cost-per-day=1"])
    assert "expected what divides a minute, an hour or a day" in capsys.readouterr().err


NO_POOLER = "as a pooler such as PgBouncer does not"


@pytest.mark.parametrize("refuses", [True, False], ids=["refuses", "ignores"])
def test_a_pooler_before_the_server_is_told_at_once_and_by_name(
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refuses: bool,
) -> None:
    install(parse_url(database, variable="DATABASE_URL"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "integrity.toml").write_text('[[tables]]\nname = "docs"\ntext = "body"\n')
    with pooler(database, refuses=refuses) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        assert main([]) == 4
    found = REFUSAL if refuses else 'its search_path is "$user", public'
    said = capsys.readouterr().err
    for words in (NO_POOLER, found, "the URL in DATABASE_URL"):
        assert words in said


@pytest.mark.thorough
def test_a_coordinator_behind_a_pooler_repairs_nothing_and_says_why(provided_site: Site) -> None:
    site = provided_site
    fill(site.database, {"acme": ROWS})
    install(parse_url(site.database, variable="DATABASE_URL"))
    with pooler(site.database, refuses=True) as url:
        site.monkeypatch.setenv("DATABASE_URL", url)
        run = site.run("--remediate", "--distributed")
    assert run.status == 11, run.output
    assert NO_POOLER in run.output
    assert "INTERNALERROR" not in run.output
