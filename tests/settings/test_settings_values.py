"""Durations and rates in the settings file are read with their units."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.settings.values import parse_byte_rate, parse_duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("2s", timedelta(seconds=2)),
        ("30 sec", timedelta(seconds=30)),
        ("1 second", timedelta(seconds=1)),
        ("5min", timedelta(minutes=5)),
        ("15 minutes", timedelta(minutes=15)),
        ("1h", timedelta(hours=1)),
        ("2 hours", timedelta(hours=2)),
        ("1 day", timedelta(days=1)),
        ("3d", timedelta(days=3)),
    ],
)
def test_a_duration_is_read_with_its_unit(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "value", ["5", "", "-5min", "0s", "5 lightyears", "1h30min", "999999999999 days", 300, True]
)
def test_a_duration_in_another_form_is_refused_with_the_accepted_forms(value: object) -> None:
    with pytest.raises(ValueError, match=r"expected a duration such as .*\"15 minutes\".*, found"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("text", "bytes_per_second"),
    [("64MB/s", 64 * 1024**2), ("512 kB/s", 512 * 1024), ("1gb/s", 1024**3), ("10B/s", 10)],
)
def test_a_byte_rate_is_read_with_its_unit(text: str, bytes_per_second: int) -> None:
    assert parse_byte_rate(text) == bytes_per_second


@pytest.mark.parametrize("value", ["64MB", "64", "MB/s", "0MB/s", "64MB/min", 64, True])
def test_a_byte_rate_in_another_form_is_refused_with_the_accepted_forms(value: object) -> None:
    with pytest.raises(ValueError, match=r"expected a rate such as \"64MB/s\".*, found"):
        parse_byte_rate(value)


@given(st.text())
def test_any_text_is_a_duration_or_a_fault_and_never_a_crash(text: str) -> None:
    try:
        assert parse_duration(text) > timedelta(0)
    except ValueError as error:
        assert str(error).startswith("expected a duration")  # noqa: PT017
