"""Describes a run as the endpoint answers for it: its state, counts and end, and keeps it on disk.

A restarted service still answers for earlier runs: the file stands beside the run's report.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from checks.redaction import redactor
from remediation.journal.outcomes import Outcome
from remediation.journal.past_journals import RUN_ID

if TYPE_CHECKING:
    from checks.exit_status import ExitStatus
    from remediation.run.repair_run import RepairRun
    from remediation.table_repair.planning.plan import Plan

FILE_NAME = "run.json"
OUTCOMES = tuple(outcome for outcome in Outcome if outcome is not Outcome.RESTORED)
State = Literal["running", "finished", "stopped", "refused", "interrupted"]
NEWS_KEPT = 20


@dataclass(kw_only=True)
class RunRecord:
    """One run. Changed by its own thread; others read it."""

    run_id: str
    dry_run: bool
    given: dict[str, Any]
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished_at: datetime | None = None
    state: State = "running"
    selected: int = 0
    counts: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    plan: Plan | None = None
    reason: str | None = None
    """Why it was refused, stopped or interrupted."""
    status: ExitStatus | None = None
    news: list[str] = field(default_factory=list)
    """The latest pauses, in words."""
    has_report: bool = False

    def planned(self, plan: Plan) -> None:
        self.plan, self.selected = plan, plan.selected

    def settled(self, outcome: Outcome) -> None:
        self.counts[outcome] += 1

    def paused(self, words: str) -> None:
        self.news = [*self.news, redactor.clean(words)][-NEWS_KEPT:]

    def ended(self) -> None:
        """The end of the repair's rows is not the run's."""

    def finish(self, run: RepairRun, status: ExitStatus) -> None:
        """Take in how it ended; what the ledger says counts, as a row may be reopened."""
        if run.plan is not None:
            self.plan = run.plan
        if run.results:
            self.selected = sum(result.account.selected for result in run.results)
            for outcome in OUTCOMES:
                self.counts[outcome] = sum(result.account.count(outcome) for result in run.results)
        elif run.plan is not None and run.dry_run:
            self.selected = run.plan.selected
        stops = [f"{result.table}: {result.stopped}" for result in run.results if result.stopped]
        reasons = [*([run.refused] if run.refused else []), *stops, *run.warnings]
        self.reason = redactor.clean("; ".join(reasons)) or None
        self.status, self.has_report = status, run.page is not None
        if run.interrupted:
            self.end("interrupted", self.reason or "the service was stopped")
        elif run.refused is not None and not run.results:
            self.end("refused", self.reason)
        else:
            self.end("stopped" if run.stopped_early else "finished", self.reason)

    def end(self, state: State, reason: str | None) -> None:
        self.reason, self.finished_at = reason, datetime.now(UTC)
        self.state = state

    def answer(self) -> dict[str, Any]:
        """As JSON. Of a repair that ended `selected` is the sum of the five outcomes."""
        plan = self.plan
        return {
            "runId": self.run_id,
            "state": self.state,
            "dryRun": self.dry_run,
            "selected": self.selected,
            **{str(outcome): self.counts[outcome] for outcome in OUTCOMES},
            "plan": None
            if plan is None
            else {
                "rows": plan.rows,
                "requests": plan.requests,
                "tokens": plan.tokens,
                "dollars": plan.dollars,
            },
            "reason": self.reason,
            "exitStatus": None if self.status is None else int(self.status),
            "meaning": None if self.status is None else self.status.meaning,
            "parameters": self.given,
            "news": self.news,
            "startedAt": self.started_at.isoformat(),
            "finishedAt": None if self.finished_at is None else self.finished_at.isoformat(),
            "hasReport": self.has_report,
        }


def keep(directory: Path, answer: dict[str, Any]) -> None:
    """Write an answer beside the run's report, whole or not at all; only the owner may read it.

    Raises OSError.
    """
    folder = directory / answer["runId"]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{FILE_NAME}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(answer, file)
        Path(temporary).replace(folder / FILE_NAME)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def kept(directory: Path, run_id: str) -> dict[str, Any] | None:
    """The answer for a run of an earlier service, or None where it had no such run."""
    if not RUN_ID.fullmatch(run_id):
        return None
    found = None
    with suppress(OSError, ValueError):
        found = json.loads((directory / run_id / FILE_NAME).read_text(encoding="utf-8"))
    if not isinstance(found, dict) or found.get("runId") != run_id:
        return None
    if found.get("state") == "running":
        # It is none of this service's: whoever began it wrote no end.
        found |= {"state": "interrupted", "reason": "the service that began it ended before it did"}
    return found
