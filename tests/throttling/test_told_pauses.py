"""What is said of pauses, under a health of the server that says what it is told."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from remediation.throttling.throttle import Throttle
from remediation.throttling.wait_reasons import WaitReason
from tests.waiting import wait_until

if TYPE_CHECKING:
    import pytest


class Scripted:
    """A health that says what it is told."""

    limited = True

    def __init__(self) -> None:
        self.now: WaitReason | None = None
        self.looks = 0

    def look(self) -> WaitReason | None:
        self.looks += 1
        return self.now

    def look_for_file(self) -> None:
        """There is none."""

    def close(self) -> None:
        """Nothing is open."""


def test_a_repair_that_stops_and_goes_on_all_the_time_is_summed_up_in_the_end() -> None:
    told: list[str] = []
    health = Scripted()
    with Throttle(health, told.append, every=0.01) as pauses:  # type: ignore[arg-type]
        for hold in [None, *[WaitReason(reason="too much"), None] * 3]:
            health.now, looks = hold, health.looks
            wait_until(lambda: health.looks > looks + 1)  # noqa: B023 - called at once
            pauses.tell()
    assert told[0] == "the repair is paused: too much"
    assert told[1].startswith("the repair goes on after ")
    assert told[2].startswith("the repair was paused 3 times, ")
    assert len(told) == 3


def test_a_cause_that_joins_a_wait_for_keys_is_told_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("remediation.throttling.pauses.EXPECTED_SECONDS", 0.0)
    told: list[str] = []
    health = Scripted()
    with Throttle(health, told.append, every=0.01) as pauses:  # type: ignore[arg-type]

        def tell(waiting: WaitReason | None, *, until: int) -> None:
            def look() -> bool:
                pauses.tell(waiting)
                return len(told) >= until

            wait_until(look)

        wait_until(lambda: pauses.hold() is None)
        keys = WaitReason(reason="the keys", expected=True)
        tell(keys, until=1)
        health.now = WaitReason(reason="too much")
        tell(keys, until=2)
        tell(keys, until=2)
        health.now = None
        tell(None, until=3)
    assert told[:2] == ["the repair is paused: the keys", "the repair is paused: too much"]
    assert told[2].startswith("the repair goes on after ")
    assert len(told) == 3


def test_the_end_of_a_pause_that_cannot_be_told_is_the_end_of_it_all_the_same() -> None:
    """A repair that drains what is in flight would run into it again and again."""

    def announce(words: str) -> None:
        if "goes on" in words:
            raise BrokenPipeError

    health = Scripted()
    with Throttle(health, announce, every=0.01) as pauses:  # type: ignore[arg-type]
        for hold in (WaitReason(reason="too much"), None):
            health.now, looks = hold, health.looks
            wait_until(lambda: health.looks > looks + 1)  # noqa: B023 - called at once
            with suppress(BrokenPipeError):
                pauses.tell()
        pauses.tell()


def test_a_look_that_breaks_pauses_the_repair() -> None:
    class Broken(Scripted):
        def look(self) -> WaitReason | None:
            raise KeyError

    with Throttle(Broken(), lambda _: None) as pauses:  # type: ignore[arg-type]
        wait_until(lambda: (hold := pauses.hold()) is not None and not hold.expected)
        hold = pauses.hold()
        assert hold is not None
        assert hold.reason == "the health of the server cannot be read: KeyError"
