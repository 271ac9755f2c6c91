"""Builds Great Expectations suites over measurements, and reads from their results what holds.

Judges row checks, gaps and canaries alike; reads no database, and loads its engine only when a
suite is asked for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from checks.expectations import engine
from checks.expectations.engine import SEGMENTS_SEEN, SuiteError, engine_failed
from checks.expectations.measurements import Segment, Verdict, tolerated_failures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from great_expectations import ExpectationSuite
    from great_expectations.core import ExpectationValidationResult

    from checks.expectations.measurements import Threshold
    from checks.settings.table_checks import Severity
    from checks.targets.target import Target

ROW_COUNT: Final = "expect_table_row_count_to_equal"
ROWS: Final = "rows"

TO_ENGINE: Final[Mapping[Severity, str]] = {"error": "critical", "warning": "warning"}
FROM_ENGINE: Final[Mapping[str, Severity]] = {"critical": "error", "warning": "warning"}

HOW_TO_READ = (
    "A row of the frame is a segment: one tenant's rows in one table. `{failing}` is how many of"
    " its `rows` fail, `{tolerated}` how many may, in whole rows: the share that need not hold,"
    " rounded down."
)


class Counted(Protocol):
    """Counts of a segment, as in a `Measurement`: `rows`, and of these the `failing` by check."""

    @property
    def segment(self) -> Segment: ...
    @property
    def rows(self) -> int: ...
    @property
    def failing(self) -> Mapping[str, int]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Counts of a segment that no scan made: of a sample, or of the rows beside a table."""

    segment: Segment
    rows: int
    failing: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What is asked of one table: its counts, and the thresholds they are held against."""

    table: str
    entry: str
    """The name of its declaration (`entry_of`), whose tables are judged together."""
    counts: tuple[Counted, ...]
    thresholds: tuple[Threshold, ...]
    segments_seen: int
    """How many segments have counts, counted independently of them."""
    about: str = ""
    """The name of the canary or of the gap's check, where the row checks are not asked."""
    unseen: int = 0
    """How many segments could not be looked at: they have no counts, and are errors elsewhere."""


def entry_of(target: Target) -> str:
    """The name that the tables of a target's declaration share; without a pattern, its own."""
    return target.entry if target.declared.name.is_pattern else target.name


def alike(asked: Mapping[int, Asked]) -> list[dict[int, Asked]]:
    """Groups of what one suite can answer together, by position, in order of appearance."""
    groups: dict[tuple[str, str, tuple[Threshold, ...]], dict[int, Asked]] = {}
    for position, one in asked.items():
        groups.setdefault((one.entry, one.about, one.thresholds), {})[position] = one
    return list(groups.values())


def judge(asked: Sequence[Asked]) -> tuple[tuple[Verdict, ...] | SuiteError, ...]:
    """The verdicts of each, in order, or why its suite could not decide.

    Groups are judged together: a validation costs the same for one segment as for thousands.
    """
    answers: dict[int, tuple[Verdict, ...] | SuiteError] = {}
    whole: dict[int, Asked] = {}
    for position, one in enumerate(asked):
        try:
            # Checked per table: in the sum over many, one too many would hide one too few.
            _require_all_seen(one.table, measured=len(one.counts), seen=one.segments_seen)
        except SuiteError as error:
            answers[position] = error
        else:
            whole[position] = one
    for group in alike(whole):
        try:
            answers |= _judged_together(group)
        except SuiteError as error:
            answers |= dict.fromkeys(group, error)
    return tuple(answers[position] for position in range(len(asked)))


def _judged_together(group: Mapping[int, Asked]) -> dict[int, tuple[Verdict, ...]]:
    first = next(iter(group.values()))
    verdicts = validate(
        first.table if len(group) == 1 else first.entry,
        [counted for one in group.values() for counted in one.counts],
        first.thresholds,
        segments_seen=sum(one.segments_seen for one in group.values()),
    )
    # The verdicts come check by check, and within a check table by table.
    taken = iter(verdicts)
    answers: dict[int, list[Verdict]] = {position: [] for position in group}
    for _ in first.thresholds:
        for position, one in group.items():
            answers[position] += islice(taken, len(one.counts))
    return {position: tuple(own) for position, own in answers.items()}


def expectation_suite(name: str, thresholds: Sequence[Threshold]) -> ExpectationSuite:
    """The suite of a table, an expectation per threshold; `to_json_dict()` exports it.

    The frame it validates has a row per segment: `rows`, and for each threshold the columns
    `failing_<check>` and `tolerated_<check>`. The number of segments is its parameter
    `segments_seen`, so that the suite is the same every night.

    Raises SuiteError where two thresholds are for one check, or the engine refuses one.
    """
    # Great Expectations finds columns without regard to case, and would take the other's counts.
    names = Counter(threshold.check.casefold() for threshold in thresholds)
    if twice := sorted(name for name, count in names.items() if count > 1):
        raise SuiteError(
            f"expected one threshold per check for table {name!r}, found several for "
            f"{', '.join(map(repr, twice))}: give each check a name that differs in more than case"
        )
    with engine.its_errors_as_suite_errors(name):
        engine.load()
        from great_expectations import ExpectationSuite
        from great_expectations.expectations.core.expect_column_pair_values_a_to_be_greater_than_b import (  # noqa: E501
            ExpectColumnPairValuesAToBeGreaterThanB,
        )
        from great_expectations.expectations.core.expect_table_row_count_to_equal import (
            ExpectTableRowCountToEqual,
        )
        from great_expectations.expectations.metadata_types import FailureSeverity

        every_segment = ExpectTableRowCountToEqual(
            value={"$PARAMETER": SEGMENTS_SEEN},
            description="every segment that was seen is measured, and no other",
        )
        enough_hold = [
            ExpectColumnPairValuesAToBeGreaterThanB(
                column_A=tolerated_column(threshold.check),
                column_B=failing_column(threshold.check),
                or_equal=True,
                ignore_row_if="neither",
                severity=FailureSeverity(TO_ENGINE[threshold.severity]),
                description=f"{threshold.check}: {threshold.words}",
                notes=HOW_TO_READ.format(
                    failing=failing_column(threshold.check),
                    tolerated=tolerated_column(threshold.check),
                ),
                meta={"check": threshold.check, "min": str(threshold.min)},
            )
            for threshold in thresholds
        ]
        return ExpectationSuite(name=name, expectations=[every_segment, *enough_hold])


def validate(
    table: str,
    counts: Sequence[Counted],
    thresholds: Sequence[Threshold],
    *,
    segments_seen: int,
) -> tuple[Verdict, ...]:
    """Have the table's suite decide every check for every segment.

    `thresholds` are those of exactly the checks that were counted; `segments_seen` is what the
    scan counted independently of them. The verdicts are in the order of the thresholds, within one
    in that of the counts.

    Raises SuiteError where the engine failed, the number of segments differs, or counts and
    thresholds do not fit each other; a failing row is never an error, an error never a verdict.
    """
    suite = expectation_suite(table, thresholds)
    with engine.its_errors_as_suite_errors(table):
        frame = frame_of(table, counts, thresholds)
        result = engine.validate_frame(suite, frame, segments_seen=segments_seen)
    answers = list(result.results)
    _require_row_count(table, answers, measured=len(counts), segments_seen=segments_seen)
    verdicts: list[Verdict] = []
    for threshold in thresholds:
        answer = _answer(table, answers, threshold)
        refused = _refused_positions(table, threshold.check, answer, len(counts))
        config = answer.expectation_config
        severity = FROM_ENGINE[config.severity] if config else threshold.severity
        tolerated = frame[tolerated_column(threshold.check)].tolist()
        verdicts += (
            Verdict(
                check=threshold.check,
                segment=counted.segment,
                rows=counted.rows,
                failing=counted.failing[threshold.check],
                tolerated=tolerated[position],
                holds=position not in refused,
                severity=severity,
            )
            for position, counted in enumerate(counts)
        )
    return tuple(verdicts)


def failing_column(check: str) -> str:
    """The frame's column of a check's failing counts; prefixed: a check may be called "rows"."""
    return f"failing_{check}"


def tolerated_column(check: str) -> str:
    """The frame's column of how many rows may fail a check."""
    return f"tolerated_{check}"


def frame_of(
    table: str, counts: Sequence[Counted], thresholds: Sequence[Threshold]
) -> pd.DataFrame:
    """A row per segment. Its index is the position, so that no tenant's name enters the engine.

    Raises SuiteError for counts that do not fit the thresholds, or that no scan can have made.
    """
    import pandas as pd

    asked = frozenset(threshold.check for threshold in thresholds)
    counted = {frozenset(one.failing) for one in counts} or {asked}
    if len(counted) > 1:
        raise SuiteError(
            f"expected the same checks to be measured for every segment of table {table!r}, "
            "found segments that lack some: scan the table as a whole again"
        )
    checks = sorted(counted.pop())
    if unasked := sorted(frozenset(checks) - asked):
        raise SuiteError(
            f"expected a threshold for every measured check of table {table!r}, found none for "
            f"{', '.join(map(repr, unasked))}: pass the thresholds of all checks that apply"
        )
    rows = [one.rows for one in counts]
    columns = {ROWS: rows}
    columns |= {failing_column(check): [one.failing[check] for one in counts] for check in checks}
    if any(count < 0 for column in columns.values() for count in column):
        raise SuiteError(
            f"expected counts of zero or more for table {table!r}, found a negative one: "
            "a scan cannot have counted it"
        )
    for threshold in thresholds:
        columns[tolerated_column(threshold.check)] = [
            tolerated_failures(count, threshold.min) for count in rows
        ]
    # int64 by name: a missing count must be refused, not become a NaN that passes.
    return pd.DataFrame(columns, dtype="int64")


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
        raise SuiteError(engine_failed(table, "it did not count the segments"))
    require_no_exception(table, counted[0])
    if not counted[0].success:
        _require_all_seen(table, measured=measured, seen=segments_seen)
        raise SuiteError(engine_failed(table, "it counted other segments than it was given"))


def _require_all_seen(table: str, *, measured: int, seen: int) -> None:
    if measured != seen:
        raise SuiteError(
            f"expected a measurement of each of the {seen} segments seen in table {table!r}, found "
            f"{measured}: tenants came or vanished meanwhile, run the checks again"
        )


def _answer(
    table: str, answers: Sequence[ExpectationValidationResult], threshold: Threshold
) -> ExpectationValidationResult:
    column = failing_column(threshold.check)
    found = [
        answer
        for answer in answers
        if answer.expectation_config and answer.expectation_config.kwargs.get("column_B") == column
    ]
    if len(found) != 1:
        raise SuiteError(engine_failed(table, f"{len(found)} results for {threshold.check!r}"))
    require_no_exception(table, found[0])
    return found[0]


def _refused_positions(
    table: str, check: str, answer: ExpectationValidationResult, segments: int
) -> frozenset[int]:
    """The positions of the segments that the engine refused, proven to be all of them."""
    result: Mapping[str, Any] = answer.result
    # These must not pass for an answer: a segment left out, a list cut short (the engine caps
    # its other lists), or a success that the counts contradict.
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
            engine_failed(table, f"its result for {check!r} does not account for every segment")
        )
    return refused


def require_no_exception(table: str, answer: ExpectationValidationResult) -> None:
    """Raise SuiteError where the engine caught an exception and filed it as a failure."""
    found: Mapping[str, Any] = answer.exception_info or {}
    # An exception of the expectation is one flat record; those of metrics are one per metric.
    records = [found] if "raised_exception" in found else list(found.values())
    for record in records:
        if record["raised_exception"]:
            raise SuiteError(engine_failed(table, str(record["exception_message"]).strip()))
