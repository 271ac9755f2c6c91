"""Accepted failures in whole runs and repairs: shown, left alone, and told once they grow."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from checks.findings.acceptance import today_in_utc
from tests.builders.tables import rows, run
from tests.drivers.repairs import docs as docs_table
from tests.drivers.repairs import environment, repaired, settings
from tests.drivers.runs import MISSING, ROWS, SETTINGS, TENANTS, Site, fill, missing, stale
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ("pytester",)

ACCEPTS = """
[tables.checks]
completeness.accept = [
    {{ tenant = "acme", rows = {rows}, until = {until}, reason = "pages <b>being</b> typed" }}
]
"""


def accepting(site: Site, *, rows: int = MISSING, days: int = 1) -> None:
    until = today_in_utc() + timedelta(days=days)
    site.settings(SETTINGS + ACCEPTS.format(rows=rows, until=until))


def outcomes(site: Site) -> dict[str, list[str]]:
    """The kinds of entry below each test case in JUnit, by its name."""
    suite = ET.parse(site.folder / "junit.xml").getroot()
    return {
        str(case.get("name")): [
            f"{entry.tag} {entry.get('type')}" for entry in case if entry.tag != "properties"
        ]
        for case in suite.iter("testcase")
    }


def test_an_accepted_finding_shows_as_an_expected_failure(site: Site) -> None:
    fill(site.database, {"acme": ROWS, "globex": ROWS}, missing=0)
    run(site.database, "UPDATE insights SET embedding = NULL WHERE id <= 2")
    accepting(site)
    ended = site.run("--junitxml=junit.xml", "--html=page.html", "-rx")
    assert ended.status == 0, ended.output
    assert "1 xfailed" in ended.output
    assert "pages <b>being</b> typed" in ended.output
    expected = [name for name, entries in outcomes(site).items() if entries]
    assert [outcomes(site)[name] for name in expected] == [["skipped pytest.xfail"]]
    assert "completeness-insights-acme" in expected[0]
    page = (site.folder / "page.html").read_text(encoding="utf-8")
    assert "XFailed" in page
    assert "<b>being</b>" not in page


def test_an_acceptance_of_a_check_that_is_not_made_fails_the_run_and_no_more(site: Site) -> None:
    fill(site.database, {"acme": 1}, missing=0)
    accepting(site)
    text = (site.folder / "integrity.toml").read_text(encoding="utf-8")
    site.settings(text.replace("completeness.accept", "freshness.accept"))
    ended = site.run()
    assert ended.status == 1, ended.output
    assert "freshness does not apply to public.insights" in ended.output
    assert site.run("-m", "completeness").status == 0


def test_an_acceptance_that_has_run_out_fails_the_run(site: Site) -> None:
    fill(site.database, {"acme": ROWS}, missing=1)
    accepting(site, days=-1)
    ended = site.run()
    assert ended.status == 1
    assert "a day that has passed" in ended.output


@pytest.mark.thorough
def test_a_repair_leaves_accepted_rows_as_they_are(provided_site: Site) -> None:
    site = provided_site
    fill(site.database, dict.fromkeys(TENANTS, ROWS))
    accepting(site)
    planned = site.run("--remediate", "--dry-run")
    assert re.search(rf"public\.insights +{2 * MISSING} ", planned.output)
    assert site.provider is not None
    ended = site.run("--remediate", "--junitxml=junit.xml")
    assert ended.status == 0, ended.output
    assert f"{2 * MISSING}/{2 * MISSING} rows re-embedded, 0 errors" in ended.output
    assert missing(site.database) == {"acme": MISSING}
    assert stale(site.database) == []
    assert list(filter(None, outcomes(site).values())) == [["skipped pytest.xfail"]]
    report = site.report().read_text(encoding="utf-8")
    assert "pages &lt;b&gt;being&lt;/b&gt; typed" in report
    texts = site.provider.stats().requests
    again = site.run("--remediate")
    assert again.status == 0, again.output
    assert "nothing to repair" in again.output
    assert site.provider.stats().requests == texts


def test_what_has_grown_beyond_its_acceptance_is_repaired_and_then_told(
    provided_site: Site,
) -> None:
    site = provided_site
    fill(site.database, dict.fromkeys(TENANTS, ROWS))
    accepting(site, rows=MISSING - 1)
    ended = site.run("--remediate")
    assert missing(site.database) == {}
    assert ended.status == 1
    assert "the acceptance is no longer needed; remove it" in ended.output


def accepted_in(check: str, *, rows: int, tenant: str | None = "acme") -> dict[str, Any]:
    """`[tables.checks]` with one acceptance that still holds."""
    until = today_in_utc() + timedelta(days=1)
    entry = {"rows": rows, "until": until, "reason": "known"} | (
        {"tenant": tenant} if tenant else {}
    )
    return {check: {"accept": [entry]}}


def test_accepted_rows_are_not_probed_as_healthy_ones(database: str, tmp_path: Path) -> None:
    with ProviderServer() as server, docs_table(database, {"acme": (6, 2)}) as docs:
        other = docs.literal("another text")
        docs.execute("ALTER TABLE docs ADD content_hash text")
        docs.execute("UPDATE docs SET content_hash = md5(body)")
        docs.execute(f"UPDATE docs SET content_hash = 'x', embedding = '{other}' WHERE id <= 4")
        table = {
            "content_hash": "content_hash",
            "checks": {
                **accepted_in("freshness", rows=4),
                **accepted_in("uniqueness", rows=4),
            },
        }
        done = repaired(database, settings(server, table=table), tmp_path, keys=environment("acme"))
    assert done.counts() == {"selected": 2, "fixed": 2}
    assert docs_of(database, "embedding IS NULL") == []
    assert docs_of(database, "content_hash = 'x'") == [1, 2, 3, 4]


def test_a_row_that_fails_an_unaccepted_check_as_well_is_repaired_for_that(
    database: str, tmp_path: Path
) -> None:
    with ProviderServer() as server, docs_table(database, {"acme": (3, 3)}) as docs:
        docs.execute("UPDATE docs SET note = 'odd' WHERE id = 4")
        odd = {"name": "odd", "failing_when": "embedding IS NULL AND note = 'odd'"}
        table = {
            "custom": [{**odd, "remedy": "re-embed"}],
            "checks": accepted_in("completeness", rows=3),
        }
        done = repaired(database, settings(server, table=table), tmp_path, keys=environment("acme"))
    assert done.counts() == {"selected": 1, "fixed": 1}
    assert docs_of(database, "embedding IS NULL") == [5, 6]


def test_accepted_rows_of_a_store_are_left_as_they_are(database: str, tmp_path: Path) -> None:
    with (
        ProviderServer() as server,
        docs_table(database, {"acme": (3, 2), "globex": (2, 3)}) as docs,
    ):
        docs.execute("CREATE TABLE vectors (doc_id integer PRIMARY KEY, embedding vector(8))")
        docs.execute("INSERT INTO vectors SELECT id, embedding FROM docs WHERE id % 5 > 0")
        store = {"name": "public.vectors", "key": ["doc_id"]}
        table = {"store": store, "checks": accepted_in("completeness", rows=2)}
        chosen = settings(server, table=table)
        done = repaired(database, chosen, tmp_path, keys=environment("acme", "globex"))
    assert done.counts() == {"selected": 3, "fixed": 3}
    assert done.after is not None
    assert done.after.open_findings == ()
    assert [f.tenant for f in done.after.findings] == ["acme"]


def docs_of(url: str, condition: str) -> list[int]:
    return [row[0] for row in rows(url, f"SELECT id FROM docs WHERE {condition} ORDER BY id")]
