"""Texts of rows are shown nowhere, unless --show-texts asks for the beginnings of those left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.drivers.runs import MISSING, TENANTS, fill
from tests.servers.endpoints import endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.drivers.runs import Site

pytest_plugins = ("pytester",)

REFUSED = "initech"
"""The tenant whose key the provider does not know."""
HOSTILE = "<script>alert(1)</script> \x1b[31m secret plan of initech " + "word " * 100


@pytest.fixture
def refusing_site(site: Site) -> Iterator[Site]:
    """A site at which one tenant's rows cannot be repaired; one of them holds a hostile text."""
    fill(site.database, dict.fromkeys(TENANTS, 6), missing=MISSING)
    with psycopg.connect(site.database, autocommit=True) as connection:
        connection.execute(
            "UPDATE public.insights SET body = %s WHERE id ="
            ' (SELECT min(id) FROM public.insights WHERE "tenantId" = %s)',
            (HOSTILE, REFUSED),
        )
    site.use_keys({tenant: site.keys[tenant] for tenant in TENANTS})
    known = {tenant: site.keys[tenant] for tenant in TENANTS if tenant != REFUSED}
    with endpoint(known) as running:
        site.monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        yield site


def test_no_text_of_a_row_is_shown_or_written_unasked(refusing_site: Site) -> None:
    site = refusing_site
    loud = ("-vv", "--showlocals", "--full-trace", "--html=page.html", "--junitxml=junit.xml")
    run = site.run("--remediate", *loud)
    assert run.status == 1, run.output
    written = {str(path): text for path, text in site.everything_written()}
    assert any(path.endswith("journal.jsonl") for path in written)
    for name, content in {"output": run.output, **written}.items():
        for text in ("secret plan", "text 1 of", "text 3 of"):
            assert text not in content, name
    assert "None holds a text of a row." in site.report().read_text(encoding="utf-8")


def test_with_show_texts_the_beginnings_of_texts_that_are_left_are_shown_and_inert(
    refusing_site: Site,
) -> None:
    site = refusing_site
    run = site.run("--remediate", "--show-texts")
    assert run.status == 1, run.output
    assert "'text 1 of initech'" in run.output
    assert "'<script>alert(1)</script> \\x1b[31m secret plan of initech" in run.output
    assert "\x1b[31m secret" not in run.output
    assert "text 1 of acme" not in run.output
    page = site.report().read_text(encoding="utf-8")
    assert "<q>text 1 of initech</q>" in page
    assert "<code>--show-texts</code> was given" in page
    assert "<script" not in page
    assert "secret plan of initech" in page
    assert HOSTILE[:201] not in site.report().with_suffix(".json").read_text(encoding="utf-8")
    (journal,) = site.folder.glob("incidents/*/journal.jsonl")
    assert "initech" in journal.read_text(encoding="utf-8")
    assert "text 1 of" not in journal.read_text(encoding="utf-8")
