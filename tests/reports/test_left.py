"""The next step for rows that were not fixed is that of their outcome."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from remediation.journal.outcomes import Outcome, OutcomeGroup
from remediation.run.repair_run import RepairRun
from reports.account.again import again, commands_for
from reports.account.left import next_step_for
from reports.account.repaired import DONE


@pytest.mark.parametrize(
    ("outcome", "reason", "words"),
    [
        (Outcome.QUARANTINED, "its text has 9,000 tokens, more than 8,191", '"truncate"'),
        (
            Outcome.QUARANTINED,
            "provider answered 400: This model's maximum context length is 8192 tokens",
            '"truncate"',
        ),
        (Outcome.QUARANTINED, "provider answered 400: content policy", "--retry-quarantined"),
        (Outcome.SKIPPED, "the cap of 150 rows is reached (--max-rows)", "larger --max-rows"),
        (Outcome.SKIPPED, "the cap of $25.00 is reached (--max-cost)", "larger --max-cost"),
        (Outcome.FAILED, "no key was found; set KEY_{tenant} of each", "give these tenants keys"),
        (Outcome.FAILED, "provider answered 503", "mend the cause"),
        (Outcome.SUPERSEDED, "edited meanwhile", "somebody else changed"),
    ],
)
def test_each_outcome_has_its_own_next_step(outcome: Outcome, reason: str, words: str) -> None:
    group = OutcomeGroup(tenant="acme", outcome=outcome, reason=reason, rows=1, sample_keys=())
    assert words in next_step_for(group)


@pytest.mark.parametrize(
    ("words", "options", "command"),
    [
        (
            "pytest --config=a.toml --remediate",
            ("--remediate",),
            "pytest --config=a.toml --remediate",
        ),
        ("pytest --rollback run --table=t", (), "pytest --table=t"),
        ("pytest --rollback=run", ("--remediate", "--dry-run"), "pytest --remediate --dry-run"),
        (
            "pytest --max-rows 5 --max-cost=1 --retry-quarantined",
            ("--remediate", "--max-rows=10"),
            "pytest --max-cost=1 --remediate --max-rows=10",
        ),
    ],
)
def test_the_next_command_is_the_last_one_with_what_it_needs_now(
    words: str, options: tuple[str, ...], command: str
) -> None:
    assert again(words.split(), *options) == command


@pytest.mark.parametrize("outcome", [one for one in Outcome if one not in DONE])
def test_every_next_step_about_rows_names_a_command(outcome: Outcome) -> None:
    run = RepairRun(
        run_id="run", started_at=datetime.now(UTC), dry_run=False, report_directory=Path()
    )
    group = OutcomeGroup(tenant=None, outcome=outcome, reason="refused", rows=1, sample_keys=())
    commands = list(commands_for(next_step_for(group), ("pytest", "--tenant=a b"), run))
    assert commands[0] == "pytest '--tenant=a b' --remediate"
    assert commands[1:] == (
        ["pytest '--tenant=a b' --remediate --retry-quarantined"]
        if outcome is Outcome.QUARANTINED
        else []
    )
