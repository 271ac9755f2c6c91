"""Runs the main job whole: `python -m demo` as `make demo` does, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from checks.exit_status import ExitStatus
from demo.incident import ANSWER, MISSING_BY_TENANT, WRONG_DIMENSION_BY_TENANT
from tests.drivers.runs import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.drivers.starter import Starter

BROKEN = {
    *(f"completeness-workflow_insights-{tenant}-" for tenant in MISSING_BY_TENANT),
    *(f"dimensionality-support_macros-{tenant}-" for tenant in WRONG_DIMENSION_BY_TENANT),
}
"""How the ids of the items begin that fail before the repair."""


def environment() -> dict[str, str]:
    """Ours, without anything that a demo gives itself."""
    ours = ("OPENAI_", "INTEGRITY_", "DATABASE_URL", "REMEDIATION_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def files_in(folder: Path) -> tuple[str, str]:
    """The options that put a run's files there."""
    return f"--report-dir={folder}/incidents", f"--junitxml={folder}/checks.xml"


def demo(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A demo with its files in the folder, as a person starts it."""
    return subprocess.run(
        [sys.executable, "-m", "demo", *arguments, *files_in(folder)],
        cwd=REPOSITORY,
        env=environment() | variables,
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


@pytest.mark.thorough
def test_a_dry_run_shows_the_plan_and_asks_the_provider_nothing(
    starter: Starter, tmp_path: Path
) -> None:
    with starter.start(
        "pytest",
        *("--demo", "--remediate", "--dry-run", *files_in(tmp_path)),
        folder=REPOSITORY,
        environment=environment(),
        output=tmp_path / "output.txt",
    ) as run:
        assert run.wait(300) == 1, run.printed()
    assert re.search(r"public\.workflow_insights +382 +16 .*\n(.*\n)*  to probe +5 ", run.printed())
    assert "provider requests: 0\n" in run.printed()
    assert list(tmp_path.glob("incidents/*")) == []
    _, failing = outcomes(tmp_path)
    assert failing == BROKEN


@pytest.mark.parametrize(
    ("arguments", "ending", "status", "said"),
    [
        (["--dry-run"], 1, 0, ""),
        (["--dry-run"], 0, 1, "expected 1 (some check does not hold"),
        ([], 1, 1, "expected 0 (all checks hold)"),
    ],
    ids=["as it should", "a dry run that finds nothing", "a repair that leaves something"],
)
def test_a_demo_that_ends_otherwise_than_it_should_fails_and_says_so(
    tmp_path: Path, arguments: list[str], ending: int, status: int, said: str
) -> None:
    # The demo is left out: pytest ends so before it begins.
    (tmp_path / "ending.py").write_text(f"def pytest_cmdline_main(): return {ending}\n")
    run = demo(tmp_path, *arguments, "-p", "ending", PYTHONPATH=str(tmp_path))
    assert run.returncode == status, run.stdout + run.stderr
    assert f"pytest's exit status: {ending} ({ExitStatus(ending).meaning})" in run.stdout
    assert said in run.stderr
    assert bool(run.stderr) == bool(said)
