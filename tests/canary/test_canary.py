"""Whole runs with --canary: what they ask, what they print, and how a repair goes with them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import psycopg
import pytest
from pgvector.psycopg import register_vector

from demo.embedding import embed
from tests.builders import items
from tests.drivers.runs import SETTINGS, TENANTS, fill, stale
from tests.servers.endpoints import endpoint

if TYPE_CHECKING:
    from pathlib import Path

    from tests.drivers.runs import Site

pytest_plugins = ("pytester",)

ROWS = dict.fromkeys(TENANTS, 8)
OTHER_MODEL = "text-embedding-ada-002"
# The demo's vectors of so short texts may end in zeros.
PLAIN = SETTINGS + "[tables.checks]\ndegenerate = { enabled = false }\n"
SAMPLE_ALL = PLAIN + "[canary]\nsample = 50\n"

ITEMS = f"""
[provider]
dimensions = {items.DIMENSIONS}

[[tables]]
name = "public.items"
tenant = "tenant"
text = "body"
"""


def requests(site: Site) -> int:
    assert site.provider is not None
    return site.provider.stats().requests


def embed_as(url: str, condition: str, *, model: str = OTHER_MODEL) -> list[int]:
    """Give rows another model's vectors of their texts; their ids."""
    with psycopg.connect(url, autocommit=True) as connection:
        register_vector(connection)
        rows = connection.execute(
            f"SELECT id, body FROM insights WHERE {condition} ORDER BY id"
        ).fetchall()
        for key, body in rows:
            vector = embed(body, model=model, dimensions=1536)
            connection.execute("UPDATE insights SET embedding = %s WHERE id = %s", (vector, key))
    return [key for key, _ in rows]


def vectors(url: str) -> dict[int, bytes]:
    with psycopg.connect(url) as connection:
        register_vector(connection)
        rows = connection.execute("SELECT id, embedding FROM insights").fetchall()
    return {key: b"" if v is None else np.asarray(v.to_numpy()).tobytes() for key, v in rows}


def outcomes(path: Path) -> dict[str, str]:
    """The outcome of each test case of a JUnit file, which must name each once."""
    cases = list(ElementTree.parse(path).iter("testcase"))
    names = [case.attrib["name"] for case in cases]
    assert len(set(names)) == len(names)
    return {
        case.attrib["name"]: next(
            (c.tag for c in case if c.tag in ("failure", "error", "skipped")), "passed"
        )
        for case in cases
    }


def drift_of(results: dict[str, str]) -> dict[str, str]:
    """The outcomes of drift, by tenant."""
    return {
        tenant: outcome
        for name, outcome in results.items()
        for tenant in TENANTS
        if "drift" in name and tenant in name
    }


@pytest.mark.thorough
def test_without_the_option_there_is_no_item_and_no_request(provided_site: Site) -> None:
    fill(provided_site.database, ROWS, missing=0)
    provided_site.settings(PLAIN)
    outcome = provided_site.run("-v")
    assert outcome.status == 0
    assert "test_canary" not in outcome.output
    assert requests(provided_site) == 0


def test_a_whole_database_holds_and_the_price_is_told_before(provided_site: Site) -> None:
    fill(provided_site.database, ROWS, missing=0)
    outcome = provided_site.run("--canary", "-v", "--junitxml=junit.xml", "--report")
    assert outcome.status == 0
    results = outcomes(provided_site.folder / "junit.xml")
    assert drift_of(results) == dict.fromkeys(TENANTS, "passed")
    assert not any("retrieval" in name for name in results)
    # Samples of five in batches of three.
    assert requests(provided_site) == 6
    (written,) = provided_site.folder.glob("incidents/*/incident.json")
    asked = json.loads(written.read_text())["canary"]
    assert (asked["requests"], asked["tokens"] > 0) == (6, True)
    assert asked["dollars"] == pytest.approx(asked["tokens"] * 0.02 / 1_000_000)
    price = "drift: 15 sampled rows of 3 segments in 6 requests, about"
    assert outcome.output.index(price) < outcome.output.index("PASSED")
    assert "seed 20" in outcome.output


def test_a_silently_swapped_model_fails_every_segment(provided_site: Site) -> None:
    site = provided_site
    fill(site.database, ROWS, missing=0)
    keys = {tenant: site.keys[tenant] for tenant in TENANTS}
    with endpoint(keys, vectors_of=OTHER_MODEL) as swapped:
        site.monkeypatch.setenv("OPENAI_BASE_URL", swapped.base_url)
        outcome = site.run("--canary", "-m", "drift", "--junitxml=junit.xml")
    assert outcome.status == 1
    assert drift_of(outcomes(site.folder / "junit.xml")) == dict.fromkeys(TENANTS, "failure")
    assert "15 of 15 sampled rows have a vector that is not what model" in outcome.output
    assert "tenants: 'acme' 5 of 5, 'globex' 5 of 5, 'initech' 5 of 5" in outcome.output
    assert "in all" not in outcome.output, "a sample tells nothing of all rows"
    properties = {
        (p.attrib["name"], p.attrib["value"])
        for p in ElementTree.parse(site.folder / "junit.xml").iter("property")
    }
    assert {("check", "drift"), ("tenant", "globex"), ("failing", "5"), ("rows", "5")} <= properties


def test_a_tenant_without_a_key_is_an_error_of_its_own(provided_site: Site) -> None:
    fill(provided_site.database, ROWS, missing=0)
    provided_site.monkeypatch.delenv("OPENAI_API_KEY__GLOBEX")
    outcome = provided_site.run("--canary", "--junitxml=junit.xml")
    assert outcome.status == 1
    assert drift_of(outcomes(provided_site.folder / "junit.xml")) == {
        "acme": "passed",
        "globex": "error",
        "initech": "passed",
    }
    assert "could not look at tenant 'globex'" in outcome.output
    assert requests(provided_site) == 4


def test_a_canary_beyond_max_cost_asks_nothing(provided_site: Site) -> None:
    fill(provided_site.database, ROWS, missing=0)
    outcome = provided_site.run("--canary", "--max-cost=0", "--junitxml=junit.xml")
    assert outcome.status == 1
    results = outcomes(provided_site.folder / "junit.xml")
    assert drift_of(results) == dict.fromkeys(TENANTS, "error")
    assert "(--max-cost); nothing was asked" in outcome.output
    assert requests(provided_site) == 0


def test_what_is_deselected_is_not_asked_for(provided_site: Site) -> None:
    fill(provided_site.database, ROWS, missing=0)
    outcome = provided_site.run("--canary", "-k", "drift and acme")
    assert outcome.status == 0
    assert requests(provided_site) == 2
    assert provided_site.run("--canary", "-m", "completeness").status == 0
    assert requests(provided_site) == 2


def test_a_dry_run_prices_the_canary_and_asks_nothing(provided_site: Site) -> None:
    fill(provided_site.database, ROWS, missing=2)
    outcome = provided_site.run("--canary", "--remediate", "--dry-run", "-rs")
    assert outcome.status == 1
    assert "drift: 15 sampled rows of 3 segments in 6 requests" in outcome.output
    assert "a dry run calls no provider, so drift was not looked for" in outcome.output
    assert requests(provided_site) == 0


def test_collecting_lists_the_canaries_without_a_connection(site: Site) -> None:
    site.monkeypatch.delenv("DATABASE_URL")
    outcome = site.run("--canary", "--collect-only", "-q")
    assert outcome.status == 0
    assert "test_drift[drift-insights]" in outcome.output


def test_a_seed_that_is_no_number_is_refused(site: Site) -> None:
    site.monkeypatch.setenv("INTEGRITY_CANARY_SEED", "today")
    outcome = site.run("--canary")
    assert outcome.status == 4
    assert "INTEGRITY_CANARY_SEED is 'today'" in outcome.output


def test_a_repair_embeds_the_drifting_rows_of_a_sound_segment_again(provided_site: Site) -> None:
    site = provided_site
    site.settings(SAMPLE_ALL)
    fill(site.database, ROWS, missing=2)
    wrong = embed_as(site.database, "\"tenantId\" = 'acme' AND embedding IS NOT NULL AND id < 5")
    assert wrong == stale(site.database)
    before = vectors(site.database)
    outcome = site.run("--canary", "--remediate", "--junitxml=junit.xml")
    assert outcome.status == 0, outcome.output
    assert stale(site.database) == []
    after = vectors(site.database)
    repaired = {key for key in after if after[key] != before[key]}
    assert repaired == {*wrong, *(key for key, vector in before.items() if not vector)}
    assert f"{len(repaired)}/{len(repaired)} rows re-embedded, 0 errors" in outcome.output
    results = outcomes(site.folder / "junit.xml")
    assert set(results.values()) == {"passed"}
    assert drift_of(results) == dict.fromkeys(TENANTS, "passed")
    # The healed segment is sampled afresh: the second price is for it alone.
    assert "sampled rows of 1 segment in" in outcome.output


def test_a_repair_leaves_a_segment_alone_in_which_no_row_agrees(provided_site: Site) -> None:
    site = provided_site
    site.settings(SAMPLE_ALL)
    fill(site.database, ROWS, missing=0)
    with psycopg.connect(site.database, autocommit=True) as connection:
        connection.execute("UPDATE insights SET embedding = NULL WHERE id = 20")
    wrong = embed_as(site.database, "\"tenantId\" = 'acme'")
    before = vectors(site.database)
    outcome = site.run("--canary", "--remediate", "--junitxml=junit.xml")
    assert outcome.status == 1
    after = vectors(site.database)
    assert {key for key in after if after[key] != before[key]} == {20}
    assert stale(site.database) == wrong
    assert drift_of(outcomes(site.folder / "junit.xml")) == {
        "acme": "failure",
        "globex": "passed",
        "initech": "passed",
    }
    assert "No sampled row agrees" in outcome.output
    report = site.report().read_text(encoding="utf-8")
    assert "No sampled row agrees" in report


@pytest.mark.parametrize("broken", [False, True])
def test_an_index_is_searched_without_asking_the_provider(
    provided_site: Site, broken: bool
) -> None:
    site = provided_site
    site.settings(ITEMS)
    items.fill(site.database, indexes=[items.HNSW])
    items.always(site.database, f"hnsw.ef_search = {1 if broken else 200}")
    outcome = site.run("--canary", "-m", "retrieval", "--junitxml=junit.xml")
    assert outcome.status == (1 if broken else 0), outcome.output
    (result,) = outcomes(site.folder / "junit.xml").items()
    assert result == (
        "test_retrieval[retrieval-items-acme-7dbbbd]",
        "failure" if broken else "passed",
    )
    assert ("retrieval: 5 of 5 sampled rows of tenant 'acme'" in outcome.output) == broken
    assert requests(site) == 0


def test_beyond_500_segments_one_item_lists_the_drifting_tenants(provided_site: Site) -> None:
    site = provided_site
    site.settings(f'[keys]\nfallback_env = "PLATFORM_KEY"\n{PLAIN}')
    site.monkeypatch.setenv("PLATFORM_KEY", site.keys["acme"])
    fill(site.database, dict.fromkeys((f"t{number}" for number in range(501)), 1), missing=0)
    embed_as(site.database, "\"tenantId\" IN ('t7', 't300')")
    outcome = site.run("--canary", "-m", "drift", "--concurrency=8", "--junitxml=junit.xml")
    assert outcome.status == 1
    assert outcomes(site.folder / "junit.xml") == {"test_drift[drift-insights]": "failure"}
    # As a set: where CI is set, pytest's summary repeats the whole message.
    listed = re.findall(r"'(\w+)' 1 of 1", outcome.output)
    assert set(listed) == {"t7", "t300"}
    assert requests(site) == 501
