"""The main job, whole: `python -m demo` as `make demo` runs it, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from demo.incident import ANSWER, MISSING_BY_TENANT, WRONG_DIMENSION_BY_TENANT
from tests.runs import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

BROKEN = {
    *(f"completeness-workflow_insights-{tenant}-" for tenant in MISSING_BY_TENANT),
    *(f"dimensionality-support_macros-{tenant}-" for tenant in WRONG_DIMENSION_BY_TENANT),
}
"""How the ids of the items begin that fail before the repair."""


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A demo with its files in the folder, and nothing of ours in its environment."""
    ours = ("OPENAI_", "INTEGRITY_", "DATABASE_URL", "REMEDIATION_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "demo",
            *arguments,
            f"--report-dir={folder}/incidents",
            f"--junitxml={folder}/checks.xml",
        ],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def outcomes(folder: Path) -> tuple[ET.Element, set[str]]:
    """The suite of the JUnit file, and how the ids of its failing items begin."""
    suite = ET.parse(folder / "checks.xml").getroot()[0]
    failing = {
        case.attrib["name"].partition("[")[2].rpartition("-")[0] + "-"
        for case in suite.iter("testcase")
        if case.find("failure") is not None
    }
    return suite, failing


def test_the_incident_is_found_repaired_verified_and_reported(tmp_path: Path) -> None:
    run = demo(tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    lines = run.stdout.splitlines()
    assert "public.workflow_insights: 382/382 rows re-embedded, 0 errors" in lines
    assert "public.support_macros: 7/7 rows re-embedded, 0 errors" in lines
    assert "pytest's exit status: 0 (all checks hold)" in lines
    before, _, after = run.stdout.partition("before the repair")[2].partition("after the repair")
    assert ANSWER not in before
    assert f"{ANSWER}   <- was missing" in after
    (report,) = tmp_path.glob("incidents/*/incident.html")
    assert f"incident report: {report}" in lines
    suite, failing = outcomes(tmp_path)
    assert failing == set()
    cases = [case.attrib["name"] for case in suite.iter("testcase")]
    assert len(cases) == len(set(cases)) == int(suite.attrib["tests"])


def test_a_dry_run_shows_the_plan_and_asks_the_provider_nothing(tmp_path: Path) -> None:
    run = demo(tmp_path, "--dry-run")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "public.workflow_insights: 382 rows in 10 requests and 5 to probe" in run.stdout
    assert "provider requests: 0\n" in run.stdout
    assert "pytest's exit status: 1 (some check does not hold" in run.stdout
    assert list(tmp_path.glob("incidents/*")) == []
    _, failing = outcomes(tmp_path)
    assert failing == BROKEN


def test_a_demo_that_ends_otherwise_than_it_should_fails_and_says_so(tmp_path: Path) -> None:
    # pytest says its version and ends with 0, where a dry run has to find something.
    run = demo(tmp_path, "--dry-run", "--version")
    assert run.returncode == 1
    assert "pytest's exit status: 0 (all checks hold)" in run.stdout
    assert "expected 1 (some check does not hold" in run.stderr
