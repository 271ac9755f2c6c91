"""Waits go by a clock that nobody sets: the time of day may jump by hours, or be wrong."""

from __future__ import annotations

import ast
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("checks", "remediation", "reports", "embedding_integrity")
TIME_OF_DAY = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "date.today"}
STAMPS = {
    # What a run, an event or a report is dated with.
    "remediation/admin/run_record.py",
    "remediation/migration.py",
    "remediation/run/repair_run.py",
    "remediation/stash.py",
    "reports/account/assembly.py",
    "reports/outputs_plugin.py",
    "reports/plugin.py",
    "reports/unattended.py",
    # What depends on the day: a sample, an acceptance that ends, dollars a day.
    "checks/plugins/canary.py",
    "checks/findings/acceptance.py",
    "remediation/distributed/sweeps.py",
    # A date that a provider names, where its answer bears none of its own.
    "remediation/provider/retry.py",
}


def test_the_time_of_day_dates_things_and_measures_no_wait() -> None:
    found = set()
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and ast.unparse(node) in TIME_OF_DAY:
                    found.add(path.relative_to(REPOSITORY).as_posix())
    assert found == STAMPS
