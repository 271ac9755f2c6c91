"""Whole runs of pytest with what `python -m checks.discover` prints, over every layout at once."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from tests.builders.layout_tables import LAYOUTS
from tests.builders.tables import run
from tests.databases import OLD, SERVERS
from tests.drivers.runs import REPOSITORY

if TYPE_CHECKING:
    from tests.drivers.runs import Site

pytest_plugins = ("pytester",)

TOGETHER = tuple(layout for layout in LAYOUTS if not layout.heading.startswith("LangChain, "))
HOSTILE = (
    'a "quoted" name',
    "x'; DROP TABLE docs; --",
    "line\nbreak",
    "100%s %(a)s {} {0}",
    "a.b",
    "data_*",
    "\x1b[31mred",
    "\u202eright to left",
    "# '' ''' \"\"\"",
    "back\\slash\\",
)


def hostile_tables(url: str) -> None:
    """A table of each name in a schema of that name, its columns too; of two rows one is broken."""
    for name in HOSTILE:
        own = '"' + name.replace('"', '""') + '"'
        run(
            url,
            f"CREATE SCHEMA {own}",
            f"""CREATE TABLE {own}.{own} (
                {own} int PRIMARY KEY, body text, "tenantId" text, embedding vector(8))""",
            f'CREATE INDEX {own[:-1]} i" ON {own}.{own} USING hnsw (embedding vector_ip_ops)',
            f"""INSERT INTO {own}.{own} VALUES
                (1, 'x', 'hostile', NULL), (2, 'y', 'hostile', '[1,2,3,4,5,6,7,8]')""",
        )


def failing_rows(junit: str) -> dict[str, int]:
    """Failing rows by check, as the report of a run counts them."""
    counts: dict[str, int] = {}
    for case in ET.fromstring(junit).iter("testcase"):
        if case.find("failure") is None and case.find("error") is None:
            continue
        told = {str(p.get("name")): str(p.get("value")) for p in case.iter("property")}
        check = told.get("check", f"not examined: {case.get('name')}")
        counts[check] = counts.get(check, 0) + int(told.get("failing", 0))
    return counts


@pytest.mark.parametrize(
    "each_database",
    [pytest.param(one, marks=pytest.mark.thorough if one == OLD else ()) for one in SERVERS],
    indirect=True,
)
def test_a_run_with_what_is_printed_for_all_layouts_finds_the_broken_rows_and_no_others(
    site: Site, each_database: str
) -> None:
    site.monkeypatch.setenv("DATABASE_URL", each_database)
    expected = {"completeness": len(HOSTILE)}
    for layout in TOGETHER:
        layout.build(each_database)
        for check, tenants in layout.broken().items():
            expected[check] = expected.get(check, 0) + sum(tenants.values())
    hostile_tables(each_database)
    printed = subprocess.run(
        [sys.executable, "-m", "checks.discover"],
        cwd=site.folder,
        env={"PYTHONPATH": str(REPOSITORY), "DATABASE_URL": each_database},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    ).stdout
    site.settings(printed)
    ended = site.run("--junitxml=junit.xml")
    assert ended.status == 1, ended.output
    assert failing_rows((site.folder / "junit.xml").read_text(encoding="utf-8")) == expected
    for text in (printed, ended.output):
        assert {"\x1b", "\u202e"}.isdisjoint(text)
