"""The next step for rows that were not fixed is that of their outcome."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from remediation.journal.outcomes import Outcome, OutcomeGroup
from remediation.run.repair_run import RepairRun
from remediation.table_repair.planning.plan import Plan, TablePlan, TenantPlan
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
        (Outcome.FAILED, "provider answered 401 (invalid_api_key)", "renew the keys"),
        (Outcome.FAILED, "provider answered 429 (insufficient_quota)", "or their quota"),
        (
            Outcome.FAILED,
            "provider answered 404 (model_not_found), check model and base_url in [provider]",
            "check model and base_url in [provider], then",
        ),
        (
            Outcome.SKIPPED,
            "connection refused by http://h/v1, 12 of 12 tries; check base_url",
            "check base_url, then",
        ),
        (Outcome.SKIPPED, "the probe refused: healthy rows, embedded again, …", "which model and"),
        (
            Outcome.SKIPPED,
            "the probe refused: … (tenant 'acme': 0.999776; another text agrees better"
            " (separator E'\\n\\n': 1.000000 to 1.000000, yours from 0.999776):"
            " text = \"concat_ws(E'\\\\n', \\\"a\\\", b)\"; tenant 'b': 0.9), so the model or",
            'write text = "concat_ws(E\'\\\\n\', \\"a\\", b)" in the settings of the table, then',
        ),
        (Outcome.SKIPPED, "the repair was interrupted", "run pytest --remediate again: it takes"),
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


@pytest.mark.parametrize(
    ("cap", "command"),
    [
        ("the cap of 25 rows is reached (--max-rows)", "pytest --remediate --max-rows=90"),
        ("the cap of $0.01 is reached (--max-cost)", "pytest --remediate --max-cost=0.02"),
    ],
)
def test_after_a_cap_the_next_command_has_one_that_is_enough(cap: str, command: str) -> None:
    run = RepairRun(
        run_id="run", started_at=datetime.now(UTC), dry_run=False, report_directory=Path()
    )
    table = TablePlan(
        table="public.docs",
        model="m",
        tenants=(TenantPlan(tenant="acme", rows=90, requests=2, tokens=900, missing_key=None),),
    )
    run.plan = Plan(tables=(table,), price_per_million_tokens=0.02, max_rows=25, max_cost=0.01)
    group = OutcomeGroup(
        tenant="acme", outcome=Outcome.SKIPPED, reason=cap, rows=65, sample_keys=()
    )
    words = ("pytest", "--remediate", "--max-rows=25", "--max-cost=0.01")
    (said,) = commands_for(next_step_for(group), words, run)
    option = command.split()[-1].partition("=")[0]
    kept = [word for word in words[2:] if not word.startswith(option)]
    assert said == command.replace("--remediate", " ".join([*kept, "--remediate"]))
