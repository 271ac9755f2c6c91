"""The suite as a thing to look at, and its engine: late, quiet, in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from checks.expectations import suites
from checks.expectations.measurements import Threshold

if TYPE_CHECKING:
    from checks.settings.table_checks import Severity

ROOT = Path(__file__).parents[2]


def asked(check: str, share: str, *, severity: Severity = "error", says: str = "") -> Threshold:
    return Threshold(check=check, min=Decimal(share), severity=severity, says=says)


def test_an_exported_suite_shows_its_thresholds_and_can_be_read_back() -> None:
    from great_expectations import ExpectationSuite

    thresholds = [asked("a", "0.999", says="have no vector"), asked("b", "1", severity="warning")]
    suite = suites.expectation_suite("public.notes", thresholds)
    exported = json.loads(json.dumps(suite.to_json_dict()))

    assert exported["name"] == "public.notes"
    every_segment, *enough_hold = exported["expectations"]
    assert every_segment["type"] == "expect_table_row_count_to_equal"
    assert every_segment["kwargs"] == {"value": {"$PARAMETER": "segments_seen"}}
    assert [one["kwargs"] for one in enough_hold] == [
        {"column_A": f"tolerated_{check}", "column_B": f"failing_{check}", "or_equal": True}
        | {"ignore_row_if": "neither"}
        for check in ("a", "b")
    ]
    assert {one["type"] for one in enough_hold} == {
        "expect_column_pair_values_a_to_be_greater_than_b"
    }
    assert [(one["description"], one["severity"], one["meta"]) for one in enough_hold] == [
        (
            "a: at least 99.9% of each segment's rows hold, and the rest are rows that have no"
            " vector",
            "critical",
            {"check": "a", "min": "0.999"},
        ),
        ("b: no segment has failing rows", "warning", {"check": "b", "min": "1"}),
    ]
    assert "`tolerated_a` how many may" in enough_hold[0]["notes"]
    assert ExpectationSuite(**exported).expectations == suite.expectations


def test_every_expectation_is_one_of_great_expectations_own() -> None:
    suite = suites.expectation_suite("public.notes", [asked("a", "1")])

    for expectation in suite.expectations:
        assert type(expectation).__module__.startswith("great_expectations.expectations.core.")


def test_importing_the_suites_does_not_import_their_engine() -> None:
    engine = "{'great_expectations', 'pandas'}"
    script = f"import sys, checks.expectations.suites; print({engine} & set(sys.modules))"

    assert run_python("-c", script).stdout == "set()\n"


QUIET_RUN = """
import logging, os, sys, warnings
touched = []
def listen(event, arguments):
    writes = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or event in {"os.mkdir", "os.rename", "socket.connect", "socket.getaddrinfo"}:
        touched.append((event, str(arguments)))
sys.addaudithook(listen)
logging.basicConfig(level=logging.INFO)
shown, filters = warnings.showwarning, list(warnings.filters)
from decimal import Decimal
from checks.expectations import suites
from checks.expectations.engine import SuiteError
from checks.expectations.measurements import Measurement, Segment, Threshold
measurement = Measurement(
    segment=Segment(table="t", tenant="a"), rows=2, failing={"completeness": 1},
    first={}, last={}, pending=0, not_embeddable=0,
)
threshold = Threshold(check="completeness", min=Decimal(1), severity="error")
(verdict,) = suites.validate("t", [measurement], [threshold], segments_seen=1)
assert not verdict.holds
try:
    suites.validate("t", [measurement], [threshold, Threshold(
        check="absent", min=Decimal(1), severity="error")], segments_seen=1)
except SuiteError:
    pass
assert warnings.showwarning is shown, "warnings are still captured"
logging.captureWarnings(True)
assert warnings.showwarning is not shown, "the run's own capture of warnings has no effect"
logging.captureWarnings(False)
assert warnings.filters == filters, "the warning filters were changed"
assert not touched, touched
"""


def test_the_engine_touches_no_network_and_no_file_and_says_nothing(tmp_path: Path) -> None:
    # Its own process, with all warnings on and the log at INFO: whatever is said is seen.
    result = run_python("-B", "-W", "always", "-c", QUIET_RUN, home=tmp_path)

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


LOADED_BESIDE = """
import sys, threading, warnings
from checks.expectations import engine
shown, filters = warnings.showwarning, list(warnings.filters)
with engine.loading_beside():
    assert "great_expectations.expectations" not in sys.modules, "the body had to wait"
    assert "engine" in {thread.name for thread in threading.enumerate()}
assert "great_expectations.expectations" in sys.modules
assert (warnings.showwarning, warnings.filters) == (shown, filters)
"""


def test_the_engine_is_imported_beside_what_waits_for_the_server() -> None:
    result = run_python("-B", "-W", "always", "-c", LOADED_BESIDE)

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


BROKEN_ENGINE = """
from decimal import Decimal
from checks.expectations import engine
from checks.expectations import suites
from checks.expectations.measurements import Segment, Threshold
counts = suites.Counts(segment=Segment(table="t", tenant=None), rows=2, failing={"a": 0})
asked = suites.Asked(table="t", entry="t", counts=(counts,), segments_seen=1, thresholds=(
    Threshold(check="a", min=Decimal(1), severity="error"),))
with engine.loading_beside():
    pass
(answer,) = suites.judge([asked])
assert isinstance(answer, engine.SuiteError), answer
print(answer)
"""


def test_an_engine_that_cannot_be_imported_is_an_error_of_the_engine(tmp_path: Path) -> None:
    (tmp_path / "great_expectations.py").write_text("raise OSError('half installed')")

    result = run_python("-B", "-c", BROKEN_ENGINE, path=tmp_path)

    assert (result.returncode, result.stderr) == (0, "")
    assert "error of the engine (OSError: half installed)" in result.stdout


def run_python(
    *arguments: str, home: Path | None = None, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"HOME": str(home)} if home else {})
    if path:
        environment["PYTHONPATH"] = f"{path}{os.pathsep}{ROOT}"
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
