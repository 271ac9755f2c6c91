"""The report's value types and the wording of numbers and times."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from reports.page import summary, wording
from reports.values.incident import (
    Incident,
    Result,
    TimelineEvent,
)
from tests.builders.incidents import (
    incident,
    not_examined,
)


def test_tenants_stand_by_failing_rows_not_by_name() -> None:
    hit: dict[str | None, int] = {"a": 1, "b": 30, "c": 7}
    assert [one.tenant for one in incident(hit).tables[0].affected] == ["b", "c", "a"]


@pytest.mark.parametrize("run_id", ["..", "a/b", "", ".hidden", "a\n", "a b"])
def test_a_run_id_cannot_lead_out_of_the_folder(run_id: str) -> None:
    with pytest.raises(ValidationError, match="run_id"):
        Incident.model_validate({**not_examined().model_dump(), "run_id": run_id})


def test_times_are_utc_and_a_naive_time_of_the_run_is_refused() -> None:
    berlin = timezone(timedelta(hours=2))
    event = TimelineEvent(time=datetime(2026, 7, 1, 12, 0, tzinfo=berlin), text="noon")
    assert wording.moment(event.time) == "2026-07-01 10:00:00 UTC"
    with pytest.raises(ValidationError, match="timezone"):
        TimelineEvent(time=datetime(2026, 7, 1, 12, 0), text="naive")


def test_every_result_has_a_verdict_in_words() -> None:
    assert set(summary.VERDICTS) == set(Result)
    assert len(set(summary.VERDICTS.values())) == len(Result)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.31, "310 ms"),
        (4.2, "4.2 s"),
        (59.96, "1 min"),
        (192, "3 min 12 s"),
        (7500, "2 h 5 min"),
        (270_000, "3 d 3 h"),
    ],
)
def test_durations_are_humane(seconds: float, shown: str) -> None:
    assert wording.duration(seconds) == shown


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 10, "0%"),
        (10, 10, "100%"),
        (1, 1_000_000, "under 0.1%"),
        (999_999, 1_000_000, "over 99.9%"),
        (382, 5214, "7.3%"),
        (0, 0, "none"),
    ],
)
def test_a_share_never_hides_a_row(part: int, whole: int, shown: str) -> None:
    assert wording.share(part, whole) == shown
