"""The row check as a Great Expectations expectation. Importing this takes seconds.

Only `checks.examination.suites` imports it, late and quietly; it knows frames, not tenants.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pandas as pd
from great_expectations import ExpectationSuite, get_context
from great_expectations.compatibility import pydantic
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
from great_expectations.expectations.core.expect_table_row_count_to_equal import (
    ExpectTableRowCountToEqual,
)
from great_expectations.expectations.expectation import ColumnPairMapExpectation
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.metrics.map_metric_provider.column_pair_condition_partial import (  # noqa: E501
    column_pair_condition_partial,
)
from great_expectations.expectations.metrics.map_metric_provider.column_pair_map_metric_provider import (  # noqa: E501
    ColumnPairMapMetricProvider,
)

from checks.examination.measurements import tolerated_failures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from great_expectations.core import ExpectationSuiteValidationResult

    from checks.examination.measurements import Severity, Threshold

ROWS = "rows"
SEGMENTS_SEEN = "segments_seen"

TO_ENGINE: dict[Severity, FailureSeverity] = {
    "error": FailureSeverity.CRITICAL,
    "warning": FailureSeverity.WARNING,
}
FROM_ENGINE = {engine: severity for severity, engine in TO_ENGINE.items()}

RESULT_FORMAT: dict[str, Any] = {
    # Of all result lists only `unexpected_index_list` under COMPLETE is whole: values and rows
    # stop at great_expectations.constants.MAX_RESULT_RECORDS (200 in 1.24). With the frame's own
    # index it holds plain positions; naming index columns would cost 30 times the time.
    "result_format": "COMPLETE",
    "exclude_unexpected_values": True,
    "return_unexpected_index_query": False,
}


class RowsHold(ColumnPairMapMetricProvider):
    """True of a segment where no more rows fail (column B) of all (column A) than may."""

    condition_metric_name = "column_pair_values.rows_hold"
    condition_value_keys = ("min_share",)

    @column_pair_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(
        cls,  # noqa: N805 (the decorator passes the class)
        column_A: pd.Series[int],  # noqa: N803 (named so by the base class)
        column_B: pd.Series[int],  # noqa: N803
        min_share: str,
        **_: object,
    ) -> pd.Series[bool]:
        share = Decimal(min_share)
        holds = [
            int(failing) <= tolerated_failures(int(rows), share)
            for rows, failing in zip(column_A, column_B, strict=True)
        ]
        return pd.Series(holds, index=column_A.index, dtype=bool)


class ExpectRowsToHold(ColumnPairMapExpectation):
    """Expect at least `min_share` of the rows counted in column A not to be counted in column B.

    `min_share` is a decimal number from 0 to 1, written as text so that it stays exact.
    """

    min_share: str
    ignore_row_if: Literal["neither"] = "neither"

    map_metric: ClassVar[str] = "column_pair_values.rows_hold"
    success_keys: ClassVar[tuple[str, ...]] = ("ignore_row_if", "mostly", "min_share")

    @pydantic.validator("min_share")
    def _is_a_share(cls, value: str) -> str:  # noqa: N805 (pydantic passes the class)
        try:
            share = Decimal(value)
        except InvalidOperation:
            share = Decimal("NaN")
        if not (share.is_finite() and 0 <= share <= 1):
            raise ValueError(f"min_share must be a decimal number from 0 to 1, found {value!r}")
        return value


def failing_column(check: str) -> str:
    """The frame's column of a check's failing counts; prefixed: a check may be called "rows"."""
    return f"failing_{check}"


def suite_of(table: str, thresholds: Sequence[Threshold]) -> ExpectationSuite:
    """An expectation per threshold, and one that the number of segments is the number seen."""
    # That number is a parameter of the run, so that the suite is the same every night.
    row_count = ExpectTableRowCountToEqual(value={"$PARAMETER": SEGMENTS_SEEN})
    rows_hold = [
        ExpectRowsToHold(
            column_A=ROWS,
            column_B=failing_column(threshold.check),
            min_share=str(threshold.min),
            severity=TO_ENGINE[threshold.severity],
            description=f"{threshold.check} must hold for {threshold.min:%} of each segment's rows",
        )
        for threshold in thresholds
    ]
    return ExpectationSuite(name=table, expectations=[row_count, *rows_hold])


def validate_frame(
    suite: ExpectationSuite, frame: pd.DataFrame, *, segments_seen: int
) -> ExpectationSuiteValidationResult:
    """Validate the frame (a row per segment, default index) in memory: no file, no network."""
    # A context for each call: batches are cached in it by name, and two tables must not meet.
    context = get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False),
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        ),
    )
    asset = context.data_sources.add_pandas("measurements").add_dataframe_asset("segments")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    return batch.validate(
        suite,
        result_format=RESULT_FORMAT,
        expectation_parameters={SEGMENTS_SEEN: segments_seen},
    )
