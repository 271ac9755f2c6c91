"""The two passes of a repairing run: what the second one finds is what counts."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.drivers.runs import ROWS, Site, fill, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ("pytester",)


def on_first_write(url: str, statement: str) -> None:
    """Have the database do something of its own, once, when the first embedding is written."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.fired (at timestamptz)")
        connection.execute(
            "CREATE FUNCTION public.once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF NOT EXISTS (SELECT FROM public.fired) THEN"
            f" INSERT INTO public.fired VALUES (now()); {statement};"
            " END IF; RETURN NULL; END $$"
        )
        connection.execute(
            "CREATE TRIGGER once AFTER UPDATE ON public.insights FOR EACH STATEMENT"
            " WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION public.once()"
        )


def failing(site: Site) -> Iterator[str]:
    """The ids of the items that the JUnit file counts as failed, each once."""
    for case in ET.parse(site.folder / "junit.xml").getroot().iter("testcase"):
        if case.find("failure") is not None:
            yield case.attrib["name"].partition("[")[2]


@pytest.fixture
def repairable(provided_site: Site) -> Site:
    """A tenant to repair, and one that is whole; only the first has a key."""
    site = provided_site
    fill(site.database, {"acme": ROWS, "globex": ROWS})
    with psycopg.connect(site.database, autocommit=True) as connection:
        connection.execute(
            "DELETE FROM public.insights WHERE \"tenantId\" = 'globex' AND embedding IS NULL"
        )
    site.monkeypatch.delenv("OPENAI_API_KEY__GLOBEX")
    return site


def test_a_check_that_held_before_the_repair_and_fails_after_it_fails_the_run(
    repairable: Site,
) -> None:
    on_first_write(
        repairable.database,
        "UPDATE public.insights SET embedding = NULL"
        " WHERE id = (SELECT max(id) FROM public.insights WHERE \"tenantId\" = 'globex')",
    )
    run = repairable.run("--remediate", "--junitxml=junit.xml")
    assert run.status == 1, run.output
    assert missing(repairable.database) == {"globex": 1}
    (failed,) = failing(repairable)
    assert failed.startswith("completeness-insights-globex-")
    assert "1 of 8 rows of tenant 'globex'" in run.output


def test_a_tenant_that_appears_broken_during_the_repair_fails_the_run(repairable: Site) -> None:
    on_first_write(
        repairable.database,
        "INSERT INTO public.insights (\"tenantId\", body) VALUES ('late', 'text of late')",
    )
    run = repairable.run("--remediate", "--junitxml=junit.xml")
    assert run.status == 1, run.output
    assert missing(repairable.database) == {"late": 1}
    assert "tenant 'late'" in run.output
    assert list(failing(repairable)) == []
    assert "late" in repairable.report().read_text(encoding="utf-8")
