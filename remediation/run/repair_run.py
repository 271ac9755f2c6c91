"""Holds what a `--remediate` or `--rollback` run did so far. Decides nothing."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from checks.exit_status import ExitStatus
from checks.redaction import redactor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import psycopg

    from checks.database.server import Server
    from checks.diagnosis.diagnosis import Diagnosis
    from checks.errors import IntegrityError
    from checks.findings.finding import Finding
    from remediation.journal.outcomes import RowName
    from remediation.provider.usage import Usage
    from remediation.table_repair.planning.plan import Plan
    from remediation.table_repair.result import TableRepair


@dataclass(kw_only=True, slots=True)
class RepairRun:
    """What a `--remediate` or a `--rollback` run did so far; the report is made from it."""

    run_id: str
    started_at: datetime
    dry_run: bool
    report_directory: Path
    rolls_back: str | None = None
    """The run that this one rolls back; None for a repair."""
    place: str = ""
    server: Server | None = None
    plan: Plan | None = None
    results: list[TableRepair] = field(default_factory=list)
    refused: str | None = None
    """Why there was no repair at all, or why it could not go on."""
    refused_with: ExitStatus = ExitStatus.STOPPED_EARLY
    interrupted: bool = False
    measured_again: bool = False
    page: Path | None = None
    """The incident report; None until it is written."""
    texts: Mapping[RowName, str] = field(default_factory=dict)
    """How the texts of some rows that are left begin; empty without --show-texts."""
    new_findings: tuple[Finding, ...] = ()
    """Findings in segments that were not there when the run began."""
    warnings: list[str] = field(default_factory=list)
    """What a person should know beside the results."""
    diagnoses: Mapping[str, Diagnosis] = field(default_factory=dict)
    """What the failing rows of each table had in common before the repair."""
    canary: Usage | None = None
    """What the canary asked of the provider; None without one."""
    timeline: list[tuple[datetime, str]] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Enter an event in the timeline."""
        self.timeline.append((datetime.now(UTC), redactor.clean(text)))

    def refuse(self, error: IntegrityError | psycopg.Error) -> None:
        """Enter why there is no repair or rollback, or why it could not go on."""
        import psycopg

        from checks.database.connection import reason_of
        from remediation.journal.past_journals import JournalDamagedError

        reason = reason_of(error) if isinstance(error, psycopg.Error) else str(error)
        self.refused = redactor.clean(reason)
        if isinstance(error, JournalDamagedError):
            self.refused_with = ExitStatus.JOURNAL_DAMAGED
        self.note(f"no {'repair' if self.rolls_back is None else 'rollback'}: {self.refused}")

    def warn(self, text: str) -> None:
        """Enter a warning, in the timeline too."""
        self.warnings.append(text)
        self.note(text)

    @property
    def ended_early_with(self) -> ExitStatus | None:
        """The status of a run that could not begin or stopped early; None of any other one."""
        if self.refused is not None:
            return self.refused_with
        stopped = any(result.stopped for result in self.results)
        return ExitStatus.STOPPED_EARLY if stopped else None

    @property
    def tried(self) -> bool:
        """Whether a repair was begun, or refused."""
        return bool(self.timeline or self.refused or self.interrupted)

    @property
    def stopped_early(self) -> bool:
        return self.ended_early_with is not None


def new_run_id() -> str:
    """An id that sorts by time and names the run's folder of reports."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
