"""Checks that options which stand in the place of settings have the bounds of these settings."""

from __future__ import annotations

import argparse

import pytest

from remediation.options import OVERRIDES, Override

BY_NAME = {override.option: override for override in OVERRIDES}


@pytest.mark.parametrize(
    ("option", "written", "value"),
    [
        ("--batch-size", "2048", 2048),
        ("--concurrency", "256", 256),
        ("--max-rows", "1", 1),
        ("--max-cost", "0", 0.0),
        ("--max-cost", "12.5", 12.5),
    ],
)
def test_a_value_that_the_settings_file_may_hold_is_taken(
    option: str, written: str, value: float
) -> None:
    assert BY_NAME[option].parse(written) == value


@pytest.mark.parametrize(
    ("option", "written", "words"),
    [
        ("--batch-size", "5000", "expected at most 2048, found 5000"),
        ("--batch-size", "0", "expected at least 1, found 0"),
        ("--batch-size", "2.5", "expected a whole number, found 2.5"),
        ("--concurrency", "9999", "expected at most 256, found 9999"),
        ("--max-rows", "many", "expected a whole number, found 'many'"),
        ("--max-rows", "\u00b2", "expected a whole number"),
        ("--max-cost", "-1", "expected at least 0, found -1"),
        ("--max-cost", "nan", "expected a finite number, found nan"),
        ("--max-cost", "1e400", "expected a finite number, found inf"),
    ],
)
def test_a_value_beyond_the_bounds_of_the_settings_is_refused_in_words(
    option: str, written: str, words: str
) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=words):
        BY_NAME[option].parse(written)


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda override: override.option)
def test_every_override_names_a_key_of_the_settings(override: Override) -> None:
    assert override.parse("1") == 1
