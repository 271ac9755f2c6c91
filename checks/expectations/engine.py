"""Loads Great Expectations late, quietly and beside the scan, and has it validate a frame.

Its import takes seconds. Whatever it raises becomes a `SuiteError`, never a pass or a failure.
"""

from __future__ import annotations

import gc
import importlib
import logging
import sys
import threading
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from checks.errors import IntegrityError
from checks.expectations.deferred_modules import deferred

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from great_expectations import ExpectationSuite
    from great_expectations.core import ExpectationSuiteValidationResult

SEGMENTS_SEEN: Final = "segments_seen"
"""The parameter of a validation: how many segments the scan counted."""

RESULT_FORMAT: Final[dict[str, Any]] = {
    # Of all result lists only `unexpected_index_list` under COMPLETE is whole: values and rows
    # stop at great_expectations.constants.MAX_RESULT_RECORDS (200 in 1.24). With the frame's own
    # index it holds plain positions; naming index columns would cost 30 times the time.
    "result_format": "COMPLETE",
    "exclude_unexpected_values": True,
    "return_unexpected_index_query": False,
}

_MODULES = ("pandas", "great_expectations", "great_expectations.expectations")
_NOT_USED = ("scipy.stats", "altair")
"""What its expectations about distributions import, which no suite of ours has: nearly half of the
time that its import takes, and 75 MB."""


class SuiteError(IntegrityError):
    """A suite could not decide: Great Expectations failed, or what it was given does not fit."""


@contextmanager
def loading_beside() -> Iterator[None]:
    """Import the engine in a thread while the body waits for the database; join the thread after.

    An error of the import is raised again, as the engine's, when a suite is asked for.
    """
    if _loaded():
        yield
        return
    # A daemon: a run that is interrupted while it scans does not wait for an import.
    thread = threading.Thread(target=_load_or_not, name="engine", daemon=True)
    with _quiet():
        thread.start()
        yield
        while thread.is_alive():
            thread.join(0.1)  # short, so that an interrupt sent to another thread ends it too


def load() -> None:
    """Import the engine where it is not imported yet. Raises whatever it raises."""
    if _loaded():
        return
    with _quiet():
        _load()


@contextmanager
def its_errors_as_suite_errors(table: str) -> Iterator[None]:
    """Raise SuiteError for whatever the engine raises in the body."""
    try:
        yield
    except IntegrityError:
        raise
    except Exception as error:
        raise SuiteError(engine_failed(table, f"{type(error).__name__}: {error}")) from error


def engine_failed(table: str, reason: str) -> str:
    """The words for a table that the engine could not decide."""
    return (
        f"expected Great Expectations to decide the checks of table {table!r}, found an error of "
        f"the engine ({reason}): nothing is known of these checks, and no row is to blame"
    )


def validate_frame(
    suite: ExpectationSuite, frame: pd.DataFrame, *, segments_seen: int
) -> ExpectationSuiteValidationResult:
    """Validate the frame (a row per segment, default index) in memory: no file, no network."""
    from great_expectations import get_context
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

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


def _loaded() -> bool:
    return all(name in sys.modules for name in _MODULES)


def _load() -> None:
    collecting = gc.isenabled()
    gc.disable()
    try:
        with deferred(*_NOT_USED):
            for name in _MODULES:
                importlib.import_module(name)
    finally:
        # What was imported stays to the end, so no collection need look through it again; the
        # interpreter's last ones alone would take a second.
        gc.freeze()
        if collecting:
            gc.enable()


def _load_or_not() -> None:
    with suppress(Exception):
        _load()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the import of Great Expectations from talking and from changing the process.

    Its modules call `logging.captureWarnings(True)`, which would keep later warnings from the
    run they belong to, log hundreds of registrations, and import deprecated `sre_*` modules.
    """
    logger = logging.getLogger("great_expectations")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)
    # Only the main thread enters and leaves this, because the filters are the process's.
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
