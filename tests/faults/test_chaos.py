"""Tries some cases of `make chaos`, with smaller numbers and fixed seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos import all_cases, tried
from tests.faults.cases import answers, crowds, kills, races
from tests.faults.stages.ground import Ground

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.drivers.starter import Starter
    from tests.faults.stages.ground import Case

SEED = 20260303
NAMED = {
    "kill-at-request-4",
    "kill-at-update-sent-4",
    "kill-after-commit-sent-1",
    "cut-at-committed",
    "cut-at-lock-taken",
    "half-at-update-sent",
    "black-hole-at-commit-sent",
    "terminate-at-every-committed",
    "restart-at-committed",
    "once-reset-in-the-answer",
    "once-nan",
    "key-insufficient-quota",
    "always-shuffled",
    "always-index-twice",
    "load-hashed-0.2",
    "exhaust-and-cut-at-committed",
    "reports-in-a-link-to-itself",
    "memory-64-from-runtestloop",
}
"""As in the long form."""
LONG_FORM = {
    "kill-at-request-4",
    "kill-at-update-sent-4",
    "cut-at-committed",
    "once-nan",
    "key-insufficient-quota",
    "always-index-twice",
    "half-at-update-sent",
    "exhaust-and-cut-at-committed",
    "reports-in-a-link-to-itself",
    "memory-64-from-runtestloop",
}
"""Of these, what `make test` leaves to `make test-full`: others try the same kind."""


def cases(*, full: bool) -> list[Case]:
    """Those that are named, and some that chance decides on, more of them for `make test-full`."""
    return [
        *(case for case in all_cases() if case.name in (NAMED if full else NAMED - LONG_FORM)),
        *kills.at_random(3 if full else 1),
        *races.races(200 if full else 100),
        *answers.malformed(60 if full else 30),
        *crowds.interleavings(40 if full else 20),
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The profile of Hypothesis decides on the numbers here too."""
    if "case" in metafunc.fixturenames:
        full = metafunc.config.getoption("--hypothesis-profile") == "full"
        metafunc.parametrize("case", cases(full=full), ids=lambda case: case.name)


@pytest.fixture(scope="module")
def ground(server_url: str, starter: Starter) -> Iterator[Ground]:
    with Ground(server_url, starter) as shared:
        yield shared


def test_a_repair_keeps_its_promises_under(case: Case, ground: Ground) -> None:
    result = tried(ground, case, SEED)
    assert not result.wrong, (
        f"seed {SEED}; repeat: python -m pytest -n 0 tests/faults/test_chaos.py -k '{case.name}'\n"
        + "\n".join(result.wrong)
    )


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in all_cases()]
    assert len(names) == len(set(names))
    assert set(names) >= NAMED
