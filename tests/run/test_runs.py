"""Whole runs: what a person types, what pytest answers, and what is in the database afterwards."""

from __future__ import annotations

import json
import signal
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import psycopg

from tests.drivers.page import Page
from tests.drivers.runs import (
    MISSING,
    ROWS,
    SCHEMA,
    SETTINGS,
    TENANTS,
    Site,
    fill,
    missing,
    stale,
)
from tests.servers.endpoints import endpoint
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ("pytester",)

WHOLE: dict[str | None, int] = dict.fromkeys(TENANTS, ROWS)


def test_red_names_check_table_tenant_count_time_and_a_query(site: Site) -> None:
    fill(site.database, {"acme": ROWS, "globex": ROWS}, missing=0)
    with psycopg.connect(site.database, autocommit=True) as connection:
        connection.execute(
            "UPDATE public.insights SET embedding = NULL WHERE \"tenantId\" = 'acme' AND id <= 2"
        )
    run = site.run("--junitxml=junit.xml")
    assert run.status == 1
    words = "2 of 12 rows of tenant 'acme' in public.insights have text but no embedding"
    assert words in run.output
    assert "created 2026-03-03 02:00 UTC" in run.output
    assert "SELECT" in run.output
    junit = ET.parse(site.folder / "junit.xml").getroot()
    failed = [case for case in junit.iter("testcase") if case.find("failure") is not None]
    assert len(failed) == 1
    properties = {p.get("name"): p.get("value") for p in failed[0].iter("property")}
    assert properties["check"] == "completeness"
    assert properties["table"] == "public.insights"
    assert properties["tenant"] == "acme"
    assert (properties["failing"], properties["rows"]) == ("2", "12")
    assert (properties["since"] or "").startswith("2026-03-03")


def test_a_whole_database_is_green_and_needs_no_provider(site: Site) -> None:
    fill(site.database, WHOLE, missing=0)
    assert site.run().status == 0


def test_a_dry_run_shows_the_plan_and_changes_nothing(provided_site: Site) -> None:
    site = provided_site
    fill(site.database, WHOLE)
    run = site.run("--remediate", "--dry-run")
    assert run.status == 1
    assert f"{3 * MISSING} rows" in run.output
    assert "dry run: nothing was written and no provider was called" in run.output
    assert site.provider is not None
    assert site.provider.stats().requests == 0
    assert missing(site.database) == dict.fromkeys(TENANTS, MISSING)
    assert not (site.folder / "incidents").exists()


def test_a_repair_makes_every_check_pass_and_counts_each_once(provided_site: Site) -> None:
    site = provided_site
    fill(site.database, WHOLE)
    run = site.run_cold("--remediate", "--junitxml=junit.xml", "--html=page.html")
    assert run.status == 0, run.output
    assert f"{3 * MISSING}/{3 * MISSING} rows re-embedded, 0 errors" in run.output
    assert missing(site.database) == {}
    assert stale(site.database) == []
    suite = next(ET.parse(site.folder / "junit.xml").getroot().iter("testsuite"))
    cases = list(suite.iter("testcase"))
    names = [case.get("name") for case in cases]
    assert len(names) == len(set(names)) == int(suite.get("tests", "0"))
    assert suite.get("failures") == suite.get("errors") == "0"
    page = Page((site.folder / "page.html").read_text(encoding="utf-8"))
    shown = json.loads(dict(page.attributes)["data-jsonblob"])["tests"]
    results = [one["result"] for entries in shown.values() for one in entries]
    assert results.count("Passed") == len(names)
    assert "Failed" not in results
    assert "0 errors" in site.report().read_text(encoding="utf-8")


def test_a_second_repair_makes_no_request_no_update_and_no_report(provided_site: Site) -> None:
    site = provided_site
    fill(site.database, WHOLE)
    assert site.run("--remediate").status == 0
    assert site.provider is not None
    before, rows = site.provider.stats().requests, _versions(site.database)
    run = site.run("--remediate")
    assert run.status == 0
    assert "nothing to repair" in run.output
    assert site.provider.stats().requests == before
    assert _versions(site.database) == rows
    assert len(list(site.folder.glob("incidents/*/incident.html"))) == 1


def test_one_refused_key_leaves_the_other_tenants_whole(site: Site, tmp_path: Path) -> None:
    fill(site.database, WHOLE)
    keys = {tenant: site.keys[tenant] for tenant in TENANTS}
    accepted = {tenant: key for tenant, key in keys.items() if tenant != "globex"}
    with endpoint(accepted, record=tmp_path / "sent.jsonl") as running:
        site.monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        site.use_keys(keys)
        run = site.run("--remediate")
        sent = running.sent()
    assert run.status == 1, run.output
    assert "401" in run.output
    assert missing(site.database) == {"globex": MISSING}
    assert {entry.tenant for entry in sent} == {"acme", "initech"}
    assert all(entry.text.endswith(f"of {entry.tenant}") for entry in sent)
    report = site.report().read_text(encoding="utf-8")
    assert "globex" in report
    assert "401" in report


def test_a_tenant_without_a_key_is_failed_with_the_next_step(provided_site: Site) -> None:
    site = provided_site
    fill(site.database, WHOLE)
    site.monkeypatch.delenv("OPENAI_API_KEY__GLOBEX")
    run = site.run("--remediate")
    assert run.status == 1
    words = "4 rows of tenant 'globex' cannot be repaired: no key was found; set OPENAI_API_KEY__"
    assert words in run.output
    assert "[keys] sql = " in run.output
    assert missing(site.database) == {"globex": MISSING}


def test_tenants_that_share_a_variable_are_both_refused_even_if_one_is_whole(
    provided_site: Site,
) -> None:
    site = provided_site
    fill(site.database, {"a-b": ROWS, "acme": ROWS})
    with psycopg.connect(site.database, autocommit=True) as connection:
        connection.execute(
            'INSERT INTO public.insights ("tenantId", body, embedding)'
            " SELECT 'a_b', body, embedding FROM public.insights"
            " WHERE embedding IS NOT NULL LIMIT 1"
        )
    site.monkeypatch.setenv("OPENAI_API_KEY__A_B", site.keys["acme"])
    run = site.run("--remediate", "--tenant=a-b")
    assert run.status == 1
    assert "'a-b' and 'a_b' map to one environment variable" in run.output
    assert missing(site.database)["a-b"] == MISSING


def test_another_model_of_the_same_dimension_is_refused_before_the_first_write(
    site: Site,
) -> None:
    fill(site.database, WHOLE)
    keys = {tenant: site.keys[tenant] for tenant in TENANTS}
    rows = _versions(site.database)
    with endpoint(keys, vectors_of="text-embedding-ada-002") as running:
        site.monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        site.use_keys(keys)
        run = site.run("--remediate")
    assert run.status == 11, run.output
    assert "the probe refused" in run.output
    assert _versions(site.database) == rows
    assert "probe" in site.report().read_text(encoding="utf-8")


def test_a_cap_stops_the_repair_and_says_what_is_left(provided_site: Site) -> None:
    site = provided_site
    fill(site.database, WHOLE)
    run = site.run("--remediate", "--max-rows=5")
    assert run.status == 11
    assert sum(missing(site.database).values()) == 3 * MISSING - 5
    assert "the cap of 5 rows is reached (--max-rows)" in run.output


HOSTILE = {
    "'; DROP TABLE insights; --": "sk-hostile-1-aaaaaaaaaaaa",
    "<script>alert(1)</script>": "sk-hostile-2-bbbbbbbbbbbb",
    "two\nlines %s 100%": "sk-hostile-3-cccccccccccc",
    "Ж" * 299 + "1": "sk-hostile-4-dddddddddddd",
}


def test_hostile_names_and_texts_are_repaired_and_inert(site: Site) -> None:
    fill(site.database, dict.fromkeys(HOSTILE, 3) | {"": 3}, missing=1)
    with psycopg.connect(site.database, autocommit=True) as connection:
        connection.execute("UPDATE public.insights SET body = body || ' ' || \"tenantId\"")
        connection.execute("UPDATE public.insights SET embedding = NULL")
    keys = {**HOSTILE, "fallback": "sk-hostile-5-eeeeeeeeeeee"}
    site.settings(
        SETTINGS + '\n[keys]\nfallback_env = "PLATFORM_KEY"\n'
        "sql = 'SELECT api_key FROM public.keys WHERE tenant = %(tenant)s'\n"
    )
    with psycopg.connect(site.database, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.keys (tenant text PRIMARY KEY, api_key text)")
        connection.cursor().executemany(
            "INSERT INTO public.keys VALUES (%s, %s)", list(HOSTILE.items())
        )
    with endpoint(keys) as running:
        site.monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        site.monkeypatch.setenv("PLATFORM_KEY", keys["fallback"])
        run = site.run("--remediate", "--html=page.html", "--junitxml=junit.xml")
    assert run.status == 0, run.output
    assert missing(site.database) == {}
    assert stale(site.database) == []
    for path in (site.report(), site.folder / "page.html"):
        scripts = Page(path.read_text(encoding="utf-8")).scripts
        assert not any("alert(1)" in script for script in scripts), path
    ET.parse(site.folder / "junit.xml")


def test_no_key_and_no_password_is_written_anywhere(site: Site) -> None:
    fill(site.database, WHOLE)
    password = "pw-Zq8xv7Lk2"
    with psycopg.connect(site.database, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS planted")
        connection.execute(f"CREATE ROLE planted SUPERUSER LOGIN PASSWORD '{password}'")
        host = connection.info
        url = f"postgresql://planted:{password}@{host.host}:{host.port}/{host.dbname}"
    site.monkeypatch.setenv("DATABASE_URL", url)
    keys = {tenant: f"sk-planted-{tenant}-W5nR9tYu" for tenant in TENANTS}
    accepted = {tenant: key for tenant, key in keys.items() if tenant != "initech"}
    with endpoint(accepted) as running:
        site.monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        site.use_keys(keys)
        loud = ("-vv", "--showlocals", "--full-trace")
        outputs = [
            site.run(*loud, "--html=a.html", "--junitxml=a.xml").output,
            site.run(*loud, "--remediate", "--html=b.html", "--junitxml=b.xml").output,
        ]
    site.monkeypatch.setenv("DATABASE_URL", url.replace(password, password + "/wrong"))
    outputs.append(site.run().output)
    site.monkeypatch.setenv("DATABASE_URL", url.replace(password, password + "x"))
    outputs.append(site.run().output)
    secrets = [password, *keys.values()]
    for text in outputs:
        assert not [secret for secret in secrets if secret in text]
    for path, text in site.everything_written():
        assert not [secret for secret in secrets if secret in text], path


def test_a_warning_is_shown_and_does_not_fail_the_run(site: Site) -> None:
    fill(site.database, WHOLE)
    site.settings(SETTINGS + '[tables.checks]\ncompleteness = { severity = "warning" }\n')
    run = site.run()
    assert run.status == 0
    assert run.output.count("have text but no embedding") == 1
    assert "= warnings =" in run.output


def test_beyond_500_tenants_one_item_lists_the_failing_ones(site: Site) -> None:
    with psycopg.connect(site.database, autocommit=True) as connection:
        connection.execute(SCHEMA.replace("vector(1536)", "vector(3)"))
        connection.execute(
            'INSERT INTO public.insights ("tenantId", body, embedding)'
            " SELECT 't' || n, 'text', CASE WHEN n NOT IN (7, 77) THEN '[1,2,3]'::vector END"
            " FROM generate_series(1, 501) AS n"
        )
    site.settings(SETTINGS.replace("1536", "3"))
    run = site.run()
    assert run.status == 1
    assert "1 failed" in run.output
    assert "'t7'" in run.output
    assert "'t77'" in run.output


def test_collecting_lists_check_and_table_without_a_connection(site: Site) -> None:
    site.monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    run = site.run("--collect-only", "-q")
    assert run.status == 0
    assert "completeness-insights" in run.output


def test_an_interrupt_leaves_a_report_and_the_next_run_makes_all_whole(
    site: Site, tmp_path: Path
) -> None:
    fill(site.database, WHOLE)
    keys = {tenant: site.keys[tenant] for tenant in TENANTS}
    with endpoint(keys, latency=0.3, record=tmp_path / "sent.jsonl") as running:
        site.monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        site.use_keys(keys)
        with site.start("--remediate") as run:
            wait_until(lambda: running.stats().requests > 0)
            run.send_signal(signal.SIGINT)
            assert run.wait(60) == 2, run.printed()
        assert "interrupted" in site.report().read_text(encoding="utf-8")
        left = sum(missing(site.database).values())
        assert left > 0
        assert site.run("--remediate").status == 0
        repaired = [entry.text for entry in running.sent()]
    assert missing(site.database) == {}
    assert stale(site.database) == []
    assert len(repaired) >= 3 * MISSING


def _versions(url: str) -> list[tuple[object, ...]]:
    """Every row's identity and version: any UPDATE changes it."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT id, xmin::text, ctid::text FROM public.insights ORDER BY id"
        ).fetchall()


def test_a_refused_text_is_sent_once_and_again_only_when_asked_to(provided_site: Site) -> None:
    site = provided_site
    fill(site.database, {"acme": ROWS})
    with psycopg.connect(site.database, autocommit=True) as connection:
        # The endpoint answers 400 to a text of more than 8,192 tokens, as OpenAI does.
        connection.execute("UPDATE public.insights SET body = repeat('word ', 40000) WHERE id = 2")
    assert site.provider is not None
    first = site.run("--remediate")
    assert first.status == 1, first.output
    assert missing(site.database) == {"acme": 1}
    asked = site.provider.stats().requests
    shown = site.run("--remediate", "--dry-run")
    assert "1 row quarantined in an earlier run, not sent again" in shown.output
    second = site.run("--remediate")
    assert second.status == 1
    assert site.provider.stats().requests == asked
    (run_id,) = {
        line.split("quarantined in run ")[1][:23]
        for line in second.output.splitlines()
        if "quarantined in run " in line
    }
    assert run_id in {folder.name for folder in (site.folder / "incidents").iterdir()}
    third = site.run("--remediate", "--retry-quarantined")
    assert third.status == 1
    assert site.provider.stats().requests > asked
