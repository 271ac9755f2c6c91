"""Each layout works unchanged with the settings that docs/layouts.md shows: checks and repair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.settings.integrity_toml import load_settings
from remediation.journal.outcomes import Outcome
from tests.builders.layout_tables import LAYOUTS
from tests.builders.layouts import DIMENSIONS, FAILS, Layout, headings, literal, settings_of
from tests.builders.tables import examined
from tests.drivers.repairs import environment, repaired
from tests.servers.provider_server import ProviderServer, vector_of

if TYPE_CHECKING:
    from pathlib import Path

    from checks.examination.examination import Examination
    from checks.settings.integrity_toml import Settings

EVERY_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.heading)


def settings(
    layout: Layout, folder: Path, base_url: str = "https://embeddings.test/v1"
) -> Settings:
    """The documented settings of a layout, with a provider of few dimensions."""
    provider = (
        f'[provider]\nbase_url = "{base_url}"\ndimensions = {DIMENSIONS}\nbatch_size = 3\n'
        '[keys]\nenv = "KEY_{tenant}"\n'
    )
    path = folder / "integrity.toml"
    path.write_text(provider + settings_of(layout.heading), encoding="utf-8")
    return load_settings(path, row_checks=ROW_CHECK_NAMES)


def keys(layout: Layout) -> dict[str, str]:
    segments = [layout.segment(tenant) for tenant in layout.rows]
    return environment(*(name.replace("-", "_") for name in segments if name is not None))


def found(examination: Examination) -> dict[str, dict[str | None, int]]:
    """Failing rows by check and tenant; a finding of a whole table counts none."""
    counts: dict[str, dict[str | None, int]] = {}
    for finding in examination.findings:
        counts.setdefault(finding.check, {})[finding.tenant] = finding.failing
    return counts


def without(record: dict[str, Any], columns: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in columns}


def same_vector(stored: str, expected: str) -> bool:
    pairs = zip(stored.strip("[]").split(","), expected.strip("[]").split(","), strict=True)
    return all(abs(float(one) - float(other)) < 1e-3 for one, other in pairs)


def test_every_layout_of_the_document_is_tested() -> None:
    assert headings() == [layout.heading for layout in LAYOUTS]


@EVERY_LAYOUT
def test_the_checks_find_exactly_the_broken_rows_and_a_repair_heals_them(
    database: str, tmp_path: Path, layout: Layout
) -> None:
    layout.build(database)
    before = layout.contents(database)
    broken = {row.number: row for row in layout.all_rows() if row.state in FAILS}
    with ProviderServer(dimensions=DIMENSIONS) as server:
        chosen = settings(layout, tmp_path, server.base_url)
        done = repaired(database, chosen, tmp_path, keys=keys(layout))
        embedded = {layout.embedded(row) for row in broken.values()}
        probed = {layout.embedded(row) for row in layout.all_rows() if row.state == "whole"}
        assert embedded <= set(server.texts) <= embedded | probed
    outcomes = [
        (group.outcome, group.reason) for result in done.results for group in result.account.groups
    ]
    assert {outcome for outcome, _ in outcomes} == {Outcome.FIXED}, outcomes
    assert sum(result.account.selected for result in done.results) == len(broken)
    assert done.after is not None
    assert found(done.after) == {}

    after = layout.contents(database)
    for (table, number), rows in after.items():
        if number not in broken or layout.embedding not in rows[0][1]:
            assert rows == before[(table, number)], "a healthy row or another table was touched"
            continue
        ((_, record),) = rows
        expected = literal(vector_of(layout.embedded(broken[number]), DIMENSIONS).tolist())
        assert same_vector(record[layout.embedding], expected), broken[number]
        written = layout.written | {layout.embedding}
        # A store has no row before for an embedding that was missing.
        for _, earlier in before.get((table, number), []):
            assert without(record, written) == without(earlier, written)
    assert before.keys() <= after.keys()


@EVERY_LAYOUT
def test_the_checks_find_exactly_the_broken_segments(database: str, layout: Layout) -> None:
    layout.build(database)
    provider = f"[provider]\ndimensions = {DIMENSIONS}\n"
    assert found(examined(database, provider + settings_of(layout.heading))) == layout.broken()
