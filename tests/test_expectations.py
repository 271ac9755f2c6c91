"""The suite as a thing to look at, and its engine: late, quiet, in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from checks.examination import suites
from checks.examination.measurements import Threshold

ROOT = Path(__file__).parent.parent


def asked(check: str, share: str) -> Threshold:
    return Threshold(check=check, min=Decimal(share), severity="error")


def test_an_exported_suite_shows_its_thresholds_and_can_be_read_back() -> None:
    from great_expectations import ExpectationSuite

    suite = suites.expectation_suite("public.notes", [asked("a", "0.999"), asked("b", "0.90")])
    exported = json.loads(json.dumps(suite.to_json_dict()))

    assert exported["name"] == "public.notes"
    assert [
        (expectation["kwargs"]["column_B"], expectation["kwargs"]["min_share"])
        for expectation in exported["expectations"]
        if expectation["type"] == "expect_rows_to_hold"
    ] == [("failing_a", "0.999"), ("failing_b", "0.90")]
    assert ExpectationSuite(**exported).expectations == suite.expectations


@pytest.mark.parametrize("share", ["NaN", "1.01", "-0.1", "all"])
def test_the_expectation_refuses_a_share_that_is_none(share: str) -> None:
    suites.expectation_suite("public.notes", [])
    from checks.examination.expectations import ExpectRowsToHold

    with pytest.raises(ValueError, match="a decimal number from 0 to 1"):
        ExpectRowsToHold(column_A="rows", column_B="failing_a", min_share=share)


def test_importing_the_suites_does_not_import_their_engine() -> None:
    engine = "{'great_expectations', 'pandas'}"
    script = f"import sys, checks.examination.suites; print({engine} & set(sys.modules))"

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
from checks.examination import suites
from checks.examination.measurements import Measurement, Segment, Threshold
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
except suites.SuiteError:
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


def run_python(*arguments: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"HOME": str(home)} if home else {})
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
