"""The action's script as a workflow runs it, with a command that tells how it was called."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from ruamel.yaml import YAML

from tests.drivers.runs import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

TELLING = """#!/bin/sh
printf '%s\\n' "$*" '<b>as it was printed</b>'
exit $STATUS
"""


def steps() -> list[dict[str, str]]:
    action = YAML(typ="safe").load((REPOSITORY / "action.yml").read_text(encoding="utf-8"))
    found: list[dict[str, str]] = action["runs"]["steps"]
    return found


@pytest.mark.parametrize(
    ("status", "remediate", "planned"),
    [(0, "false", False), (1, "false", True), (10, "false", False), (1, "true", False)],
    ids=["checks that hold", "a check that fails", "no database", "a repair that leaves something"],
)
def test_the_step_ends_as_the_run_did_and_plans_where_a_check_fails(
    tmp_path: Path, status: int, remediate: str, planned: bool
) -> None:
    (script,) = (step["run"] for step in steps() if step.get("name") == "Run")
    command = tmp_path / "embedding-integrity" / "bin" / "embedding-integrity"
    command.parent.mkdir(parents=True)
    command.write_text(TELLING, encoding="utf-8")
    command.chmod(0o755)
    told = {
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(tmp_path / "outputs"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "CONFIG": "settings of ours/integrity.toml",
        "REMEDIATE": remediate,
        "RESULTS": "results",
        "STATUS": str(status),
    }
    run = subprocess.run(
        # As `shell: bash` of a workflow.
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=os.environ | told,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == status, run.stderr
    assert (tmp_path / "outputs").read_text() == f"status={status}\n"
    called = (tmp_path / "results" / "output.txt").read_text()
    assert "--config=settings of ours/integrity.toml" in called
    assert ("--remediate" in called) == (remediate == "true")
    assert (tmp_path / "results" / "plan.txt").exists() == planned
    assert run.stdout.count("--dry-run") == planned
    summary = (tmp_path / "summary.md").read_text()
    assert f"exit status {status}\n" in summary
    assert "\n    <b>as it was printed</b>\n" in summary


def test_the_action_installs_what_the_constraints_pin() -> None:
    (script,) = (step["run"] for step in steps() if step.get("name") == "Install")
    assert '-c "$GITHUB_ACTION_PATH/constraints.txt" "$GITHUB_ACTION_PATH"' in script
