"""Writes suites, counts and results as a project that Great Expectations' own tools open.

Decides nothing: it validates the same counts again with the suites that have judged them, with the
names of tables and tenants added. Overwrites no project but one that it wrote itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from checks.errors import IntegrityError
from checks.expectations import engine
from checks.expectations.engine import SEGMENTS_SEEN
from checks.expectations.suites import (
    Asked,
    alike,
    entry_of,
    expectation_suite,
    frame_of,
    require_no_exception,
)
from checks.redaction import redactor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    from great_expectations import ExpectationSuite
    from great_expectations.data_context.data_context.file_data_context import FileDataContext
    from great_expectations.datasource.fluent.pandas_filesystem_datasource import (
        PandasFilesystemDatasource,
    )

    from checks.examination.table_examination import TableExamination

CONTEXT: Final = "gx"
"""Where Great Expectations looks for the context of a project, below its root."""

CONTEXTS: Final = (CONTEXT, "great_expectations", "great_expectations.yml")
"""What Great Expectations takes for a context in a project's root, of earlier versions too."""

MARK: Final = "written-by-embedding-integrity.txt"
MARKED: Final = (
    "The checks of embedding-integrity wrote this project, with --gx-dir, and write it anew each\n"
    "time they run: what you change in their suites and counts is lost. Results are added.\n"
)

COUNTS: Final = "measurements"
"""The folder of the counts, a CSV file for each suite, and the name of their data source."""

NOT_MEASURED: Final = "not_measured"

RESULT_FORMAT: Final[dict[str, Any]] = {
    "result_format": "COMPLETE",
    # This takes 30 times as long as positions, and nobody reads it elsewhere.
    "unexpected_index_column_names": ["table", "tenant"],
    "return_unexpected_index_query": False,
}


class ForeignProjectError(IntegrityError):
    """The folder holds something that these checks did not write."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _ProjectSuite:
    """One suite of the project, and what it is asked of each table."""

    name: str
    asked: tuple[Asked, ...]


def require_ours(root: Path) -> None:
    """Raise ForeignProjectError where writing to the project would touch somebody else's."""
    if root.exists() and not root.is_dir():
        raise ForeignProjectError(f"{root} is no folder; name one for --gx-dir")
    for name in CONTEXTS:
        place = root / name
        empty = place.is_dir() and not any(place.iterdir())
        if place.exists() and not empty and not (name == CONTEXT and (place / MARK).is_file()):
            raise ForeignProjectError(
                f"{place} is there already, and these checks did not write it; name another folder"
                " for --gx-dir, in which they make a project of their own"
            )


def write_project(root: Path, tables: Sequence[TableExamination]) -> Path:
    """Write what was asked of these tables, and the results; returns the folder of the context.

    Suites and counts of an earlier run are replaced, its results are kept. No secret that the
    redactor knows is written. Raises OSError, ForeignProjectError, and SuiteError for whatever
    the engine raises.
    """
    require_ours(root)
    with engine.its_errors_as_suite_errors(str(root)):
        engine.load()
        context = _context(root)
        for part in _parts(tables):
            _validate(context, root / CONTEXT / COUNTS, part)
    return root / CONTEXT


def _context(root: Path) -> FileDataContext:
    from great_expectations import get_context
    from great_expectations.data_context.types.base import ProgressBarsConfig

    root.mkdir(parents=True, exist_ok=True)
    # The project names tenants, so only its owner may look inside.
    (root / CONTEXT).mkdir(mode=0o700, exist_ok=True)
    (root / CONTEXT / MARK).write_text(MARKED, encoding="utf-8")
    (root / CONTEXT / COUNTS).mkdir(exist_ok=True)
    context = get_context(mode="file", project_root_dir=root)
    context.variables.analytics_enabled = False
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    context.variables.save()
    return context


def _parts(tables: Sequence[TableExamination]) -> Iterator[_ProjectSuite]:
    """A suite for each declaration, with what was asked of its tables, unmeasured ones included."""
    asked = [
        question
        for table in tables
        if not table.target.absent
        for question in (table.asked if table.measured else (_not_measured(table),))
    ]
    taken: set[str] = set()
    for group in alike(dict(enumerate(asked))):
        first = next(iter(group.values()))
        # What separates words in a name separates folders in a project.
        words = re.findall(r"[A-Za-z0-9_-]+", _shown(f"{first.entry} {first.about}"))
        name = own = ".".join(words)[:150].rstrip(".") or "table"
        copies = 1
        while name.casefold() in taken:
            copies += 1
            name = f"{own}.{copies}"
        taken.add(name.casefold())
        yield _ProjectSuite(name=name, asked=tuple(group.values()))


def _not_measured(table: TableExamination) -> Asked:
    """A table that could not be measured is a segment that is missing: never a suite that holds."""
    return Asked(
        table=table.target.name,
        entry=entry_of(table.target),
        about=NOT_MEASURED,
        counts=(),
        thresholds=(),
        segments_seen=0,
        unseen=1,
    )


def _validate(context: FileDataContext, folder: Path, part: _ProjectSuite) -> None:
    """Write one suite and its counts, and have the engine write its result."""
    from great_expectations import ValidationDefinition

    file = f"{part.name}.csv"
    _frame(part).to_csv(folder / file, index=False)
    source = _source(context, folder)
    if part.name not in source.get_asset_names():
        # na_filter is off, or a name such as "NA" would be read as missing.
        source.add_csv_asset(part.name, na_filter=False)
    asset = source.get_asset(part.name)
    if not any(one.name == part.name for one in asset.batch_definitions):
        asset.add_batch_definition_path(part.name, path=file)
    definition = context.validation_definitions.add_or_update(
        ValidationDefinition(
            name=part.name,
            data=asset.get_batch_definition(part.name),
            suite=context.suites.add_or_update(_suite(part)),
        )
    )
    result = definition.run(
        result_format=RESULT_FORMAT,
        expectation_parameters={
            SEGMENTS_SEEN: sum(one.segments_seen + one.unseen for one in part.asked)
        },
    )
    for answer in result.results:
        require_no_exception(part.name, answer)


def _source(context: FileDataContext, folder: Path) -> PandasFilesystemDatasource:
    """The data source of the counts, at the project's present place: it may have been moved."""
    from great_expectations.datasource.fluent.pandas_filesystem_datasource import (
        PandasFilesystemDatasource,
    )

    found = context.data_sources.all().get(COUNTS)
    if not isinstance(found, PandasFilesystemDatasource):
        return context.data_sources.add_pandas_filesystem(COUNTS, base_directory=folder.resolve())
    if found.base_directory != folder.resolve():
        found.base_directory = folder.resolve()
        context.update_datasource(found)
    return found


def _suite(part: _ProjectSuite) -> ExpectationSuite:
    first = part.asked[0]
    suite = expectation_suite(
        part.name,
        [replace(threshold, says=_shown(threshold.says)) for threshold in first.thresholds],
    )
    suite.notes = _notes(part)
    suite.meta = {"tables": _shown(first.entry), "about": first.about or "row checks"}
    return suite


def _notes(part: _ProjectSuite) -> str:
    told = f"The checks of {_shown(part.asked[0].entry)}; a row is a segment."
    unseen = sum(one.unseen for one in part.asked)
    if unseen:
        told += f" {unseen:,} could not be looked at and are missing; the run says why."
    return told


def _frame(part: _ProjectSuite) -> pd.DataFrame:
    """The counts that were judged, with the names that the judging engine was never given."""
    counts = [counted for one in part.asked for counted in one.counts]
    frame = frame_of(part.name, counts, part.asked[0].thresholds)
    frame.insert(0, "table", [_shown(counted.segment.table) for counted in counts])
    tenants = [counted.segment.tenant for counted in counts]
    # In quotes, so that no tenant's name is taken for the rows without a tenant.
    frame.insert(1, "tenant", ["NULL" if t is None else f"'{_shown(t)}'" for t in tenants])
    return frame


def _shown(text: str) -> str:
    """A text from outside, redacted and escaped: Data Docs obey markup, `$` names a variable."""
    shown = repr(redactor.clean(text))[1:-1]
    return re.sub(r"[<>&$]", lambda found: f"\\x{ord(found[0]):02x}", shown)
