"""Writes the coverage of each check in each table as OpenMetrics text, for `--metrics=PATH`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from reports.values.trend import MeasuredRun

PREFIX = "embedding_integrity"


def openmetrics(run: MeasuredRun | None, *, status: int, at: float) -> str:
    """The text of one exposition, ended by its EOF line; `run` None: nothing was examined.

    `at` is when the run ended, in seconds since 1970. Labels name tables and checks, no tenant.
    """
    checks = run.checks if run is not None else ()
    labelled = [(_labels(table=one.table, check=one.check), one) for one in checks]
    families = (
        (
            "coverage_ratio",
            "Share of rows that hold, 0 to 1",
            [(labels, f"{one.coverage:.9g}") for labels, one in labelled],
        ),
        ("rows", "Rows that were looked at", [(labels, one.rows) for labels, one in labelled]),
        (
            "failing_rows",
            "Rows that fail the check",
            [(labels, one.failing) for labels, one in labelled],
        ),
        (
            "check_holds",
            "Whether no error is open, 1 or 0",
            [(labels, int(one.holds)) for labels, one in labelled],
        ),
        ("examined", "Whether anything could be examined, 1 or 0", [("", int(run is not None))]),
        ("exit_status", "How the run ended; 0 where all checks hold", [("", status)]),
        ("last_run_timestamp_seconds", "When the run ended", [("", f"{at:.3f}")]),
    )
    lines = [
        line for name, says, samples in families for line in _family(name, says, samples=samples)
    ]
    return "\n".join([*lines, "# EOF", ""])


def _family(name: str, says: str, *, samples: Iterable[tuple[str, object]]) -> Iterator[str]:
    yield f"# TYPE {PREFIX}_{name} gauge"
    yield f"# HELP {PREFIX}_{name} {says}"
    for labels, value in samples:
        yield f"{PREFIX}_{name}{labels} {value}"


def _labels(**labels: str) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
