"""What is said of a standby's lag, from samples alone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediation.throttling.wait_reasons import ReplicationLag, Standby

LIMIT = timedelta(seconds=2)


def standby(replayed: int, reported_lag: float | None = None, *, pid: int = 7) -> Standby:
    return Standby(pid=pid, name=f"s{pid}", replayed=replayed, reported_lag=reported_lag)


def test_a_standby_that_has_everything_holds_nothing_up() -> None:
    lag = ReplicationLag(limit=LIMIT)
    for second in range(10):
        # What an idle server still shows of its last busy time is no lag.
        assert lag.judge(second, 100, (standby(100, 60.0),)) is None


def test_a_standby_that_stands_still_is_as_far_behind_as_what_it_lacks_is_old() -> None:
    lag = ReplicationLag(limit=LIMIT)
    assert lag.judge(0.0, 100, (standby(100, None),)) is None
    # It reports what it last replayed: fast.
    assert lag.judge(1.0, 200, (standby(100, 0.001),)) is None
    assert lag.judge(3.0, 300, (standby(100, 0.001),)) is None
    hold = lag.judge(3.5, 300, (standby(100, 0.001),))
    assert hold is not None
    assert hold.reason == (
        "standby 's7' is 2.5 s behind, more than 2 s ([repair] max_replication_lag)"
    )
    assert lag.judge(4.0, 300, (standby(300, 0.001),)) is None


def test_a_standby_that_was_behind_before_we_looked_is_not_trusted_until_it_moves() -> None:
    lag = ReplicationLag(limit=LIMIT)
    first = lag.judge(0.0, 100, (standby(50, 0.001),))
    assert first is not None
    assert first.expected
    moved = lag.judge(0.5, 100, (standby(60, 0.1),))
    assert moved is None
    stuck = ReplicationLag(limit=LIMIT)
    holds = [stuck.judge(second / 2, 100, (standby(50, 0.001),)) for second in range(10)]
    assert all(hold is not None for hold in holds)
    assert holds[-1] is not None
    assert not holds[-1].expected


def test_a_standby_that_moves_is_believed_what_it_reports() -> None:
    lag = ReplicationLag(limit=LIMIT)
    lag.judge(0.0, 100, (standby(10, 1.0),))
    assert lag.judge(0.5, 200, (standby(20, 1.5),)) is None
    hold = lag.judge(1.0, 300, (standby(30, 30.0),))
    assert hold is not None
    assert "is 30.0 s behind" in hold.reason


def test_one_of_many_standbys_is_enough() -> None:
    lag = ReplicationLag(limit=LIMIT)
    for second in range(10):
        both = (standby(100 * second, pid=1), standby(100, pid=2))
        hold = lag.judge(second, 100 * second, both)
    assert hold is not None
    assert "'s2'" in hold.reason
    assert lag.judge(20, 2000, (standby(2000, pid=1),)) is None


@pytest.mark.parametrize("limit", [0.5, 3600.0])
def test_a_limit_of_any_length_is_seen_to_be_passed(limit: float) -> None:
    lag = ReplicationLag(limit=timedelta(seconds=limit))
    assert lag.judge(0.0, 10, (standby(10),)) is None
    passed = next(
        number / 2
        for number in range(1, 20_000)
        if (hold := lag.judge(number / 2, 10 + number, (standby(10),))) is not None
        and not hold.expected
    )
    assert limit < passed <= limit * 1.01 + 1.0
