"""Great Expectations suites over measurements: a suite per table decides what holds.

Reads no database, and imports Great Expectations only when a suite is asked for: it takes seconds.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from checks.errors import IntegrityError
from checks.examination.measurements import Verdict, tolerated_failures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd
    from great_expectations import ExpectationSuite
    from great_expectations.core import ExpectationValidationResult

    from checks.examination.measurements import Measurement, Threshold

ROW_COUNT: Final = "expect_table_row_count_to_equal"


class SuiteError(IntegrityError):
    """A suite could not decide: Great Expectations failed, or what it was given does not fit."""


def expectation_suite(table: str, thresholds: Sequence[Threshold]) -> ExpectationSuite:
    """The suite of a table, an expectation per row check; `to_json_dict()` exports it.

    The frame it validates has a row per segment: `rows`, and a column `failing_<check>` for each
    threshold. The number of segments is its parameter `segments_seen`.

    Raises SuiteError where two thresholds are for one check, or the engine refuses one.
    """
    # Great Expectations finds columns without regard to case, and would take the other's counts.
    names = Counter(threshold.check.casefold() for threshold in thresholds)
    if twice := sorted(name for name, count in names.items() if count > 1):
        raise SuiteError(
            f"expected one threshold per check for table {table!r}, found several for "
            f"{', '.join(map(repr, twice))}: give each check a name that differs in more than case"
        )
    with _engine_errors_as_suite_errors(table):
        with _quiet_import():
            from checks.examination import expectations
        return expectations.suite_of(table, thresholds)


def validate(
    table: str,
    measurements: Sequence[Measurement],
    thresholds: Sequence[Threshold],
    *,
    segments_seen: int,
) -> tuple[Verdict, ...]:
    """Have the table's suite decide every check for every segment.

    `thresholds` are those of exactly the checks that were measured; `segments_seen` is what the
    scan counted independently of the measurements. The verdicts are in the order of the
    thresholds, within one in that of the measurements.

    Raises SuiteError where the engine failed, the number of segments is another, or measurements
    and thresholds do not fit each other; a failing row is never an error, nor an error a verdict.
    """
    suite = expectation_suite(table, thresholds)
    with _engine_errors_as_suite_errors(table):
        from checks.examination import expectations

        result = expectations.validate_frame(
            suite, _frame(table, measurements, thresholds), segments_seen=segments_seen
        )
    answers = list(result.results)
    _require_row_count(table, answers, measured=len(measurements), segments_seen=segments_seen)
    verdicts: list[Verdict] = []
    for threshold in thresholds:
        answer = _answer(table, answers, threshold)
        refused = _refused_positions(table, threshold.check, answer, len(measurements))
        config = answer.expectation_config
        severity = expectations.FROM_ENGINE[config.severity] if config else threshold.severity
        verdicts += (
            Verdict(
                check=threshold.check,
                segment=measurement.segment,
                rows=measurement.rows,
                failing=measurement.failing[threshold.check],
                tolerated=tolerated_failures(measurement.rows, threshold.min),
                holds=position not in refused,
                severity=severity,
            )
            for position, measurement in enumerate(measurements)
        )
    return tuple(verdicts)


def _frame(
    table: str, measurements: Sequence[Measurement], thresholds: Sequence[Threshold]
) -> pd.DataFrame:
    """A row per segment. Its index is the position, so that no tenant's name enters the engine."""
    import pandas as pd

    from checks.examination.expectations import ROWS, failing_column

    asked = frozenset(threshold.check for threshold in thresholds)
    measured = {frozenset(measurement.failing) for measurement in measurements} or {asked}
    if len(measured) > 1:
        raise SuiteError(
            f"expected the same checks to be measured for every segment of table {table!r}, "
            "found segments that lack some: scan the table as a whole again"
        )
    checks = sorted(measured.pop())
    if unasked := sorted(frozenset(checks) - asked):
        raise SuiteError(
            f"expected a threshold for every measured check of table {table!r}, found none for "
            f"{', '.join(map(repr, unasked))}: pass the thresholds of all checks that apply"
        )
    counts = {ROWS: [measurement.rows for measurement in measurements]} | {
        failing_column(check): [measurement.failing[check] for measurement in measurements]
        for check in checks
    }
    if any(count < 0 for column in counts.values() for count in column):
        raise SuiteError(
            f"expected counts of zero or more for table {table!r}, found a negative one: "
            "a scan cannot have counted it"
        )
    # int64 by name: a missing count must be refused, not become a NaN that passes.
    return pd.DataFrame(counts, dtype="int64")


def _require_row_count(
    table: str,
    answers: Sequence[ExpectationValidationResult],
    *,
    measured: int,
    segments_seen: int,
) -> None:
    counted = [
        a for a in answers if a.expectation_config and a.expectation_config.type == ROW_COUNT
    ]
    if len(counted) != 1:
        raise SuiteError(_engine_failed(table, "it did not count the segments"))
    _require_no_exception(table, counted[0])
    if not counted[0].success:
        raise SuiteError(
            f"expected a measurement of each of the {segments_seen} segments seen in table "
            f"{table!r}, found {measured}: tenants came or vanished meanwhile, run the checks again"
        )


def _answer(
    table: str, answers: Sequence[ExpectationValidationResult], threshold: Threshold
) -> ExpectationValidationResult:
    from checks.examination.expectations import failing_column

    column = failing_column(threshold.check)
    found = [
        answer
        for answer in answers
        if answer.expectation_config and answer.expectation_config.kwargs.get("column_B") == column
    ]
    if len(found) != 1:
        raise SuiteError(_engine_failed(table, f"{len(found)} results for {threshold.check!r}"))
    _require_no_exception(table, found[0])
    return found[0]


def _refused_positions(
    table: str, check: str, answer: ExpectationValidationResult, segments: int
) -> frozenset[int]:
    """The positions of the segments that the engine refused, proven to be all of them."""
    result: Mapping[str, Any] = answer.result
    # None of these may be taken for an answer: a segment left out, a list cut short (the engine
    # caps its other lists), or a success that the counts contradict.
    positions = result.get("unexpected_index_list")
    refused = frozenset(map(int, positions)) if isinstance(positions, list) else None
    if (
        refused is None
        or len(refused) != result.get("unexpected_count")
        or not refused <= set(range(segments))
        or result.get("element_count") != segments
        or result.get("missing_count") != 0
        or answer.success is not (not refused)
    ):
        raise SuiteError(
            _engine_failed(table, f"its result for {check!r} does not account for every segment")
        )
    return refused


def _require_no_exception(table: str, answer: ExpectationValidationResult) -> None:
    """Raise SuiteError where the engine caught an exception and filed it as a failure."""
    found: Mapping[str, Any] = answer.exception_info or {}
    # One flat record for an exception of the expectation, one per metric for those of metrics.
    records = [found] if "raised_exception" in found else list(found.values())
    for record in records:
        if record["raised_exception"]:
            raise SuiteError(_engine_failed(table, str(record["exception_message"]).strip()))


def _engine_failed(table: str, reason: str) -> str:
    return (
        f"expected Great Expectations to decide the checks of table {table!r}, found an error of "
        f"the engine ({reason}): nothing is known of these checks, and no row is to blame"
    )


@contextmanager
def _engine_errors_as_suite_errors(table: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except Exception as error:
        # Whatever an engine of this size raises, it must end neither as a pass nor as a failure.
        raise SuiteError(_engine_failed(table, f"{type(error).__name__}: {error}")) from error


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Keep the import of Great Expectations from talking and from changing the process.

    Its modules call `logging.captureWarnings(True)`, which would keep later warnings from the
    run they belong to, log hundreds of registrations, and import deprecated `sre_*` modules.
    """
    if "great_expectations" in sys.modules:
        yield
        return
    logger = logging.getLogger("great_expectations")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"module 'sre_(constants|parse)' is deprecated", DeprecationWarning
        )
        shown = warnings.showwarning
        try:
            yield
        finally:
            if warnings.showwarning is not shown:
                logging.captureWarnings(False)
