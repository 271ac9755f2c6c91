"""Keeps a `--remediate` or `--rollback` run in pytest's stash."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from remediation.run.repair_run import RepairRun, new_run_id

if TYPE_CHECKING:
    from pathlib import Path

    from remediation.run.canary_embedder import CanaryEmbedder

CANARY_EMBEDDERS: pytest.StashKey[list[CanaryEmbedder]] = pytest.StashKey()
"""The embedders of the canary, one for each pass."""
REPAIR_RUN = pytest.StashKey[RepairRun]()


def begin_run(
    config: pytest.Config, report_directory: Path, *, rolls_back: str | None = None
) -> RepairRun:
    """Begin a run, and put it into pytest's stash."""
    run = RepairRun(
        run_id=new_run_id(),
        started_at=datetime.now(UTC),
        dry_run=config.getoption("--dry-run"),
        report_directory=report_directory,
        rolls_back=rolls_back,
    )
    config.stash[REPAIR_RUN] = run
    return run
