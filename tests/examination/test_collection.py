"""Checks what pytest collects: ids that run, and no item that says nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.drivers.runs import fill

if TYPE_CHECKING:
    from tests.drivers.runs import Site

pytest_plugins = ("pytester",)

PATTERN = """
[provider]
dimensions = 1536

[[tables]]
name = "public.in*"
tenant = '"tenantId"'
text = "body"
"""


def ids(output: str) -> list[str]:
    return re.findall(r"test_\w+\.py::\S+", output)


def test_every_id_that_is_listed_without_a_connection_runs_the_items_it_stands_for(
    site: Site,
) -> None:
    fill(site.database, {"acme": 3, "globex": 2}, missing=0)
    site.settings(PATTERN)
    listed = ids(site.run("--collect-only", "-q").output)
    everything = site.run("-v")
    ran = sorted(ids(everything.output))
    assert f"collected {len(ran)} items" in everything.output

    again = site.run("-v", checks=[f"checks/{one}" for one in listed])

    assert again.status == 0, again.output
    assert sorted(ids(again.output)) == ran
    of_rows = site.run("-v", checks=["checks/test_rows.py::test_rows[completeness-in-0e3a2d]"])
    assert of_rows.status == 4


def test_markers_lists_every_check_without_settings(site: Site) -> None:
    (site.folder / "integrity.toml").unlink(missing_ok=True)
    listed = site.run("--markers").output
    for check in ("schema", "tenants", "index", "drift", "completeness", "provenance"):
        assert f"@pytest.mark.{check}: the {check} check of " in listed
