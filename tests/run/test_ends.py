"""How a run ends when something stands in its way: each with its own words and exit status."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import psycopg
import pytest

from checks.database.connection_url import parse_url
from checks.examination.examination import examine
from checks.examination.selection import Selection, UnknownNameError
from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.settings.integrity_toml import load_settings
from demo.postgres import create_database, drop_database
from tests.drivers.runs import REPOSITORY, ROWS, SETTINGS, Site, fill

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ("pytester",)


@pytest.fixture
def bare_database(server_url: str) -> Iterator[str]:
    """A database without the extension and without tables."""
    url = create_database(server_url, "bare")
    yield url
    drop_database(server_url, "bare")


def test_a_url_that_is_not_set_is_a_usage_error(site: Site) -> None:
    site.monkeypatch.delenv("DATABASE_URL")
    run = site.run()
    assert run.status == 4
    assert "the environment variable DATABASE_URL is not set" in run.output
    assert "in the environment or in a file .env" in run.output


def test_a_url_in_a_dotenv_file_is_found_and_the_environment_wins_over_it(site: Site) -> None:
    fill(site.database, {"acme": 3}, missing=0)
    site.monkeypatch.delenv("DATABASE_URL")
    (site.folder / ".env").write_text(f'DATABASE_URL="{site.database}"\n', encoding="utf-8")
    assert site.run().status == 0
    site.monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert site.run().status == 10


def test_a_dotenv_file_that_is_not_utf_8_is_a_usage_error_that_shows_nothing_of_it(
    site: Site,
) -> None:
    (site.folder / ".env").write_bytes(b"OTHER=pw-Zq8xv7Lk2\n# caf\xe9\n")
    run = site.run("-l", "--full-trace")
    assert run.status == 4
    assert "is not UTF-8" in run.output
    assert "Zq8xv7Lk2" not in run.output


def test_an_interrupt_while_connecting_shows_no_secret_in_a_full_trace(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"postgresql://checker:pw-Zq8xv7Lk2@127.0.0.1:{port}/app"
        site.monkeypatch.setenv("DATABASE_URL", url)
        site.monkeypatch.setenv("OPENAI_API_KEY__ACME", "sk-W5nR9tYu-acme")
        with site.start("--full-trace") as run:
            connection, _ = silent.accept()
            with connection:
                run.send_signal(signal.SIGINT)
                status = run.wait(60)
    assert status == 2, run.printed()
    assert "Zq8xv7Lk2" not in run.printed()
    assert "W5nR9tYu" not in run.printed()


def test_a_server_out_of_reach_is_told_by_place_and_reported_by_a_repair(site: Site) -> None:
    site.monkeypatch.setenv("DATABASE_URL", "postgresql://checker:s3cr3t-pw@127.0.0.1:1/app")
    run = site.run("--remediate")
    assert run.status == 10
    assert "cannot connect to database 'app' at 127.0.0.1:1 as role 'checker'" in run.output
    assert "check the URL in DATABASE_URL, and that the server runs" in run.output
    assert "s3cr3t-pw" not in run.output
    assert "Nothing could be examined" in site.report().read_text(encoding="utf-8")


def test_a_database_without_any_table_is_told_from_missing_tables(
    site: Site, bare_database: str
) -> None:
    site.monkeypatch.setenv("DATABASE_URL", bare_database)
    run = site.run()
    assert run.status == 10
    assert "holds no tables at all" in run.output


def test_a_missing_table_and_a_missing_extension_are_named(site: Site, bare_database: str) -> None:
    with psycopg.connect(bare_database, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.insight (id int PRIMARY KEY)")
    site.monkeypatch.setenv("DATABASE_URL", bare_database)
    run = site.run()
    assert run.status == 1
    assert "table public.insights does not exist" in run.output
    assert "did you mean public.insight?" in run.output
    assert "extension vector is not installed in database 'bare'" in run.output


def test_a_missing_column_is_named_with_its_place_in_the_settings(site: Site) -> None:
    fill(site.database, {"acme": ROWS})
    site.settings(SETTINGS.replace('text = "body"', 'text = "boddy"'))
    run = site.run("--remediate", "--dry-run")
    assert run.status == 1
    assert 'text: column "boddy" does not exist' in run.output


def test_missing_settings_say_what_writes_them(site: Site) -> None:
    (site.folder / "integrity.toml").unlink()
    run = site.run(f"--config={site.folder}/none.toml")
    assert run.status == 4
    assert "embedding-integrity discover > integrity.toml" in run.output


def test_wrong_settings_are_told_all_at_once(site: Site) -> None:
    site.settings(SETTINGS.replace("batch_size = 3", "batch_sise = 3") + 'tenent = "x"\n')
    run = site.run()
    assert run.status == 4
    assert 'did you mean "batch_size"?' in run.output
    assert 'did you mean "tenant"?' in run.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dry-run"], "--dry-run needs --remediate"),
        (["--remediate", "-x"], "-x and --maxfail are refused with --remediate"),
        (["--remediate", "--maxfail=3"], "-x and --maxfail are refused with --remediate"),
        (["--sample=5", "--remediate"], "--sample is refused with --remediate and --rollback"),
        (["--since=soon"], "expected a duration such as"),
        (["--sample=0"], "expected a percentage above 0"),
        (["--max-rows=0", "--remediate"], "expected at least 1, found 0"),
        (["--max-cost=nan", "--remediate"], "expected a finite number, found nan"),
        (["--remediate", "--setup-plan"], "--setup-plan and --setup-only do not run a check"),
        (["--remediate", "-p", "no:terminal"], "--remediate needs pytest's terminal reporter"),
    ],
)
def test_options_that_cannot_be_meant_are_a_usage_error(
    pytester: pytest.Pytester, arguments: list[str], words: str
) -> None:
    with pytest.raises(pytest.UsageError) as raised:
        pytester.parseconfigure(str(REPOSITORY / "checks"), *arguments)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("tables", "tenants", "words"),
    [
        (["nosuch"], None, "--table=nosuch is not declared; declared are: public.insights"),
        (["insihgts"], None, "is not declared; did you mean 'public.insights'?"),
        (
            None,
            ("acmee",),
            "--tenant=acmee has no rows in any selected table; did you mean 'acme'?",
        ),
    ],
)
def test_a_name_that_selects_nothing_is_refused_with_the_nearest(
    site: Site, tables: list[str] | None, tenants: tuple[str, ...] | None, words: str
) -> None:
    fill(site.database, {"acme": 3}, missing=0)
    settings = load_settings(site.folder / "integrity.toml", row_checks=ROW_CHECK_NAMES)
    place = parse_url(site.database, variable="DATABASE_URL")
    with pytest.raises(UnknownNameError) as raised:
        examine(place, settings, Selection(tables=tables, tenants=tenants))
    assert words in str(raised.value)


@pytest.mark.parametrize("argument", ["--dry-run", "--table=nosuch"])
def test_a_usage_error_ends_a_run_with_status_4(site: Site, argument: str) -> None:
    fill(site.database, {"acme": 3}, missing=0)
    run = site.run(argument)
    assert run.status == 4
    assert argument in run.output


def test_workers_are_refused(site: Site) -> None:
    run = site.run_only(f"{site.repository}/checks", "-n", "2")
    assert run.status == 4
    assert "-n is refused" in run.output


@pytest.mark.parametrize(
    "form",
    [
        "postgresql+psycopg2://{rest}",
        "postgresql+asyncpg://{rest}?prepared_statement_cache_size=0",
        "postgres://{rest}?schema=public&pgbouncer=true&connection_limit=1",
    ],
)
def test_urls_of_prisma_and_sqlalchemy_are_understood(site: Site, form: str) -> None:
    fill(site.database, {"acme": 3}, missing=0)
    rest = site.database.partition("://")[2].partition("?")[0]
    site.monkeypatch.setenv("DATABASE_URL", form.format(rest=rest))
    assert site.run().status == 0


def test_a_malformed_url_is_refused_without_showing_any_of_it(site: Site) -> None:
    site.monkeypatch.setenv("DATABASE_URL", "postgresql://u:hunter2/hunter3@127.0.0.1:abc/app")
    run = site.run()
    assert run.status == 4
    assert "the value of DATABASE_URL is not a PostgreSQL connection URL" in run.output
    assert "hunter" not in run.output


def test_a_repair_through_another_database_is_refused(site: Site, bare_database: str) -> None:
    fill(site.database, {"acme": ROWS})
    site.monkeypatch.setenv("REMEDIATION_DATABASE_URL", bare_database)
    run = site.run("--remediate")
    assert run.status == 11
    assert "REMEDIATION_DATABASE_URL leads to another one" in run.output
    assert "No repair" in site.report().read_text(encoding="utf-8")


def test_a_table_under_repair_elsewhere_names_the_holder(provided_site: Site) -> None:
    site = provided_site
    fill(site.database, {"acme": ROWS})
    with psycopg.connect(site.database) as holder:
        holder.execute("SET application_name = 'the other repair'")
        holder.execute(
            "SELECT pg_advisory_xact_lock(1701667428, 'public.insights'::regclass::oid::int)"
        )
        run = site.run("--remediate")
    assert run.status == 11
    assert "is being repaired by 'the other repair'" in run.output


def test_an_absent_table_that_need_not_exist_is_skipped_in_words(site: Site) -> None:
    fill(site.database, {"acme": 3}, missing=0)
    site.settings(
        SETTINGS + '\n[[tables]]\nname = "public.axiom_chunks"\ntext = "body"\nrequired = false\n'
    )
    run = site.run("-rs")
    assert run.status == 0
    assert "public.axiom_chunks is not there yet (required = false)" in run.output


def test_the_projects_own_tests_leave_the_plugins_dormant(site: Site) -> None:
    site.monkeypatch.delenv("DATABASE_URL")
    run = site.run_only(f"{site.repository}/tests/settings/test_names.py")
    assert run.status == 0, run.output
