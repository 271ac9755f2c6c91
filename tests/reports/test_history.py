"""Runs leave what they measured, and the next ones tell the trend."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from reports import history
from reports.values.incident import Incident, Result
from reports.values.trend import Measured, MeasuredRun, percent, trend_of
from tests.builders.tables import run
from tests.drivers.runs import MISSING, ROWS, TENANTS, Site, fill

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ("pytester",)

BEGIN = datetime(2026, 3, 3, tzinfo=UTC)


def night(number: int, failing: int, *, holds: bool | None = None, table: str = "t") -> MeasuredRun:
    one = Measured(
        table=table,
        check="completeness",
        rows=10_000,
        failing=failing,
        holds=not failing if holds is None else holds,
    )
    return MeasuredRun(run_id=f"r{number}", at=BEGIN + timedelta(days=number), checks=(one,))


def test_what_was_appended_is_read_again_and_lines_that_are_no_runs_are_passed_over(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "new"
    assert history.earlier(directory) == ()
    history.append(directory, night(1, 0))
    with (directory / history.NAME).open("a") as file:
        file.write('not a run\n{"version": 7}\n')
    history.append(directory, night(2, 3))
    assert history.earlier(directory) == (night(1, 0), night(2, 3))


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_stands_in_its_place_in_another_s_folder_is_neither_read_nor_written(
    tmp_path: Path, kind: str
) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    place = tmp_path / history.NAME
    if kind == "link":
        place.symlink_to(theirs)
    else:
        os.mkfifo(place)
    with pytest.raises(OSError):  # noqa: PT011 - of many kinds
        history.append(tmp_path, night(1, 0))
    with pytest.raises(OSError):  # noqa: PT011
        history.earlier(tmp_path)
    assert theirs.read_text() == "theirs"


def test_a_coverage_below_the_last_runs_is_told_though_its_threshold_holds() -> None:
    before = [night(n, failing, holds=True) for n, failing in enumerate((2, 1, 0, 2, 1, 1))]
    (fall,) = trend_of(before, night(9, 3, holds=True)).falls
    assert fall.says == (
        "coverage of completeness in t fell to 99.97%; in each of the last 5 runs it was at least"
        " 99.98%, while its threshold still holds"
    )
    (from_all,) = trend_of([night(1, 0), night(2, 0)], night(9, 3)).falls
    assert from_all.says.endswith("; in each of the last 2 runs it was 100%")
    assert trend_of(before, night(9, 2, holds=True)).falls == ()
    assert trend_of((), night(1, 900)).falls == ()
    assert trend_of([night(1, 0, table="another")], night(2, 5)).falls == ()


def test_the_last_green_and_the_first_red_run_are_found() -> None:
    trend = trend_of([night(1, 4), night(2, 0), night(3, 0), night(4, 7)], night(5, 7))
    assert trend.last_green == BEGIN + timedelta(days=3)
    assert trend.first_red == BEGIN + timedelta(days=4)
    assert trend_of([night(1, 0)], night(2, 0)).first_red is None
    assert trend_of([night(1, 4)], night(2, 4)).first_red == BEGIN + timedelta(days=1)


def test_a_share_is_never_rounded_to_all() -> None:
    assert percent(1.0) == "100%"
    assert percent(0.5) == "50%"
    assert percent(0.99999) == "99.999%"
    assert percent(1 - 1e-9) == "under 100%"


def test_nightly_runs_write_a_report_where_it_is_asked_for_and_tell_what_fell(site: Site) -> None:
    """And without --report, a run writes nothing but the history that is there."""
    fill(site.database, dict.fromkeys(TENANTS, ROWS), missing=MISSING)
    plain = site.run()
    assert plain.status == 1
    assert not (site.folder / "incidents").exists()
    reported = site.run("--report")
    assert reported.status == 1
    (page,) = site.folder.glob("incidents/*/incident.html")
    read = Incident.model_validate_json(page.with_suffix(".json").read_bytes())
    assert (read.mode, read.result) == ("check", Result.OPEN)
    assert read.diagnosis is not None
    assert read.diagnosis.tables[0].failing == read.failing_before.rows
    assert "Type next" in page.read_text()
    assert "--remediate --dry-run" in page.with_suffix(".md").read_text()
    run(site.database, "UPDATE public.insights SET embedding = NULL WHERE id % 2 = 0")
    again = site.run()
    assert "coverage of completeness in public.insights fell to" in again.output
    assert len(history.earlier(site.folder / "incidents")) == 2
    assert len(list(site.folder.glob("incidents/*/"))) == 1


def test_the_incident_of_a_repair_knows_its_history_and_what_it_diagnosed(
    provided_site: Site,
) -> None:
    fill(provided_site.database, dict.fromkeys(TENANTS, ROWS), missing=MISSING)
    provided_site.run("--report")
    repaired = provided_site.run("--remediate")
    assert repaired.status == 0, repaired.output
    pages = provided_site.folder.glob("incidents/*/incident.json")
    incidents = [Incident.model_validate_json(page.read_bytes()) for page in pages]
    (read,) = [incident for incident in incidents if incident.mode == "repair"]
    assert read.trend is not None
    assert read.trend.first_red == min(incident.started_at for incident in incidents)
    assert read.diagnosis is not None
    assert read.diagnosis.tables[0].evidence
    assert history.earlier(provided_site.folder / "incidents")[-1].green
