"""What the suites decide, against a naive count, and what they refuse to decide."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.expectations import suites
from checks.expectations.engine import SuiteError
from checks.expectations.measurements import (
    Measurement,
    Segment,
    Threshold,
    tolerated_failures,
)
from checks.expectations.suites import Asked, Counts

if TYPE_CHECKING:
    from checks.settings.table_checks import Severity

TABLE = "public.notes"


def measured(tenant: str | None, rows: int, /, **failing: int) -> Measurement:
    return Measurement(
        segment=Segment(table=TABLE, tenant=tenant),
        rows=rows,
        failing=failing,
        first={},
        last={},
        pending=0,
        not_embeddable=0,
    )


def asked(check: str = "completeness", share: str = "1", severity: Severity = "error") -> Threshold:
    return Threshold(check=check, min=Decimal(share), severity=severity)


def holds(rows: int, failing: int, share: str) -> bool:
    (verdict,) = suites.validate(
        TABLE, [measured("acme", rows, completeness=failing)], [asked(share=share)], segments_seen=1
    )
    return verdict.holds


@st.composite
def nights(draw: st.DrawFn) -> tuple[list[Measurement], list[Threshold]]:
    checks = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True))
    thresholds = [
        Threshold(
            check=check,
            min=draw(st.decimals(0, 1, places=draw(st.integers(0, 6)))),
            severity=draw(st.sampled_from(["error", "warning"])),
        )
        for check in checks
    ]
    measurements = []
    for tenant in draw(st.lists(st.none() | st.text(), unique=True, max_size=12)):
        rows = draw(st.integers(0, 30) | st.integers(0, 10**9))
        # Around the threshold is where a wrong rounding would show.
        edges = [int(rows * (1 - Fraction(threshold.min))) for threshold in thresholds]
        measurements.append(
            measured(
                tenant,
                rows,
                **{
                    check: min(rows, draw(st.integers(0, rows) | st.integers(edge, edge + 1)))
                    for check, edge in zip(checks, edges, strict=True)
                },
            )
        )
    return measurements, thresholds


@given(nights())
@settings(deadline=None)
def test_verdicts_are_those_of_a_naive_count_with_fractions(
    night: tuple[list[Measurement], list[Threshold]],
) -> None:
    measurements, thresholds = night

    verdicts = suites.validate(TABLE, measurements, thresholds, segments_seen=len(measurements))

    assert [(v.check, v.segment, v.rows, v.failing, v.holds, v.severity) for v in verdicts] == [
        (
            threshold.check,
            measurement.segment,
            measurement.rows,
            measurement.failing[threshold.check],
            measurement.rows - measurement.failing[threshold.check]
            >= Fraction(threshold.min) * measurement.rows,
            threshold.severity,
        )
        for threshold in thresholds
        for measurement in measurements
    ]
    assert all(verdict.holds == (verdict.failing <= verdict.tolerated) for verdict in verdicts)


def test_one_failing_row_of_ten_holds_at_a_share_of_nine_tenths() -> None:
    assert holds(10, 1, "0.9")


def test_two_failing_rows_of_ten_do_not_hold_at_a_share_of_nine_tenths() -> None:
    assert not holds(10, 2, "0.9")


def test_shares_finer_than_a_float_are_told_apart_on_a_trillion_rows() -> None:
    share = "0.999999999999000000000000000001"  # one row less than a trillionth may fail: none

    assert not holds(10**12, 1, share)
    assert holds(10**12, 1, "0.999999999999")


def test_a_segment_without_rows_holds() -> None:
    assert holds(0, 0, "1")


def test_tolerated_rows_are_whole_rows() -> None:
    assert tolerated_failures(19, Decimal("0.9")) == 1
    assert tolerated_failures(20, Decimal("0.9")) == 2


def test_ten_thousand_failing_tenants_all_fail_in_every_check() -> None:
    checks = ["completeness", "dimensionality", "degenerate"]
    measurements = [measured(f"t{n}", 10, **dict.fromkeys(checks, 1)) for n in range(10_000)]

    verdicts = suites.validate(
        TABLE, measurements, [asked(check) for check in checks], segments_seen=10_000
    )

    assert len(verdicts) == 30_000
    assert not any(verdict.holds for verdict in verdicts)


def test_among_ten_thousand_tenants_exactly_the_broken_ones_fail() -> None:
    broken = {n for n in range(10_000) if n % 3 == 0}
    measurements = [measured(str(n), 7, completeness=int(n in broken)) for n in range(10_000)]

    verdicts = suites.validate(TABLE, measurements, [asked()], segments_seen=10_000)

    assert {int(v.segment.tenant or "") for v in verdicts if not v.holds} == broken


def test_a_null_tenant_is_not_the_tenant_with_the_empty_name_nor_the_one_called_none() -> None:
    tenants = {None: 1, "": 0, "None": 0, "nan": 0, "'; DROP TABLE x; --\n<b>": 1}
    measurements = [measured(tenant, 1, completeness=n) for tenant, n in tenants.items()]

    verdicts = suites.validate(TABLE, measurements, [asked()], segments_seen=5)

    assert {verdict.segment.tenant: verdict.failing for verdict in verdicts} == tenants
    assert all(verdict.holds == (not verdict.failing) for verdict in verdicts)


def test_a_check_may_be_called_like_a_column_of_the_frame() -> None:
    (verdict,) = suites.validate(
        TABLE, [measured("a", 5, rows=1)], [asked("rows")], segments_seen=1
    )

    assert (verdict.rows, verdict.failing, verdict.holds) == (5, 1, False)


def test_severity_reaches_the_suite_and_comes_back_in_the_verdict() -> None:
    thresholds = [asked("completeness", severity="warning"), asked("tagged", severity="error")]

    suite = suites.expectation_suite(TABLE, thresholds)
    verdicts = suites.validate(
        TABLE, [measured("a", 2, completeness=1, tagged=1)], thresholds, segments_seen=1
    )

    assert {
        config.kwargs["column_B"]: config.severity.value
        for config in suite.expectation_configurations
        if config.type == "expect_column_pair_values_a_to_be_greater_than_b"
    } == {"failing_completeness": "warning", "failing_tagged": "critical"}
    assert {v.check: v.severity for v in verdicts} == {"completeness": "warning", "tagged": "error"}


@pytest.mark.parametrize("share", ["NaN", "1.01", "-0.1"])
def test_a_threshold_refuses_a_share_that_is_none(share: str) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        asked(share=share)


def test_no_segments_give_no_verdicts_when_none_were_seen() -> None:
    assert suites.validate(TABLE, [], [asked()], segments_seen=0) == ()


@pytest.mark.parametrize(("measurements", "seen"), [(0, 1), (2, 1), (2, 3), (2, 0)])
def test_another_number_of_segments_than_seen_is_an_error(measurements: int, seen: int) -> None:
    whole = [measured(str(n), 1, completeness=0) for n in range(measurements)]

    with pytest.raises(SuiteError, match=rf"each of the {seen} segments .* found {measurements}:"):
        suites.validate(TABLE, whole, [asked()], segments_seen=seen)


def test_an_error_inside_the_engine_is_neither_a_pass_nor_a_failure() -> None:
    # No column of the frame answers the second threshold: the engine reports that as a failure.
    thresholds = [asked("completeness"), asked("unmeasured")]

    with pytest.raises(SuiteError, match=r"error of the engine .*failing_unmeasured"):
        suites.validate(TABLE, [measured("a", 3, completeness=0)], thresholds, segments_seen=1)


@pytest.mark.parametrize("count", [None, 0.5, float("nan"), 2**63])
def test_a_count_that_is_no_whole_number_is_an_error(count: Any) -> None:
    with pytest.raises(SuiteError, match="error of the engine"):
        suites.validate(TABLE, [measured("a", 3, completeness=count)], [asked()], segments_seen=1)


def test_a_negative_count_is_an_error() -> None:
    with pytest.raises(SuiteError, match="found a negative one"):
        suites.validate(TABLE, [measured("a", 3, completeness=-1)], [asked()], segments_seen=1)


def test_a_measured_check_without_a_threshold_is_an_error() -> None:
    with pytest.raises(SuiteError, match="found none for 'forgotten'"):
        suites.validate(
            TABLE, [measured("a", 3, completeness=0, forgotten=3)], [asked()], segments_seen=1
        )


def test_a_segment_that_lacks_a_check_of_the_others_is_an_error() -> None:
    measurements = [measured("a", 3, completeness=0), measured("b", 3)]

    with pytest.raises(SuiteError, match="the same checks to be measured for every segment"):
        suites.validate(TABLE, measurements, [asked()], segments_seen=2)


def test_checks_whose_names_differ_only_in_case_are_refused() -> None:
    with pytest.raises(SuiteError, match="several for 'tagged'"):
        suites.expectation_suite(TABLE, [asked("tagged"), asked("Tagged")])


def asked_of(table: str, *failing: int, entry: str = "*.notes", seen: int | None = None) -> Asked:
    return Asked(
        table=table,
        entry=entry,
        counts=tuple(
            Counts(
                segment=Segment(table=table, tenant=str(tenant)),
                rows=9,
                failing={"completeness": n, "tagged": 0},
            )
            for tenant, n in enumerate(failing)
        ),
        thresholds=(asked(), asked("tagged")),
        segments_seen=len(failing) if seen is None else seen,
    )


def test_tables_judged_together_get_their_own_verdicts_back() -> None:
    tables = [asked_of("a.notes", 0, 1), asked_of("b.notes"), asked_of("c.notes", 2, entry="c")]
    tables.append(asked_of("d.notes", 0, 0, 3))

    answers = suites.judge(tables)

    for one, verdicts in zip(tables, answers, strict=True):
        assert not isinstance(verdicts, SuiteError)
        assert [(v.check, v.segment, v.failing, v.holds) for v in verdicts] == [
            (check, counted.segment, counted.failing[check], not counted.failing[check])
            for check in ("completeness", "tagged")
            for counted in one.counts
        ]


def test_one_table_with_another_number_of_segments_does_not_hide_behind_the_others() -> None:
    # Together they were as many as were seen.
    too_many, too_few = asked_of("a.notes", 0, 0, seen=1), asked_of("b.notes", 0, seen=2)

    first, second, third = suites.judge([too_many, asked_of("c.notes", 1), too_few])

    assert "each of the 1 segments seen in table 'a.notes', found 2" in str(first)
    assert "each of the 2 segments seen in table 'b.notes', found 1" in str(third)
    assert isinstance(first, SuiteError)
    assert isinstance(third, SuiteError)
    assert not isinstance(second, SuiteError)
    assert [verdict.holds for verdict in second] == [False, True]


WHOLE: dict[str, object] = {
    "element_count": 3,
    "missing_count": 0,
    "unexpected_count": 2,
    "unexpected_index_list": [0, 2],
}


@pytest.mark.parametrize(
    ("success", "change"),
    [
        (True, {}),  # a success in spite of segments refused
        (False, {"unexpected_count": 0, "unexpected_index_list": []}),  # a failure of nobody
        (False, {"unexpected_index_list": [0]}),  # a list cut short
        (False, {"unexpected_index_list": [0, 7]}),  # a segment that is not there
        (False, {"unexpected_index_list": None}),
        (False, {"element_count": 2}),  # a segment left out
        (False, {"missing_count": 1}),
    ],
)
def test_a_result_that_does_not_account_for_every_segment_is_an_error(
    success: bool, change: dict[str, object]
) -> None:
    result = engine_result(success, WHOLE | change)

    with pytest.raises(SuiteError, match="does not account for every segment"):
        suites._refused_positions(TABLE, "completeness", result, 3)


def test_a_result_that_accounts_for_every_segment_is_read() -> None:
    result = engine_result(False, WHOLE)

    assert suites._refused_positions(TABLE, "completeness", result, 3) == {0, 2}


def engine_result(success: bool, result: dict[str, object]) -> Any:
    from great_expectations.core import ExpectationValidationResult

    return ExpectationValidationResult(success=success, result=result)
