"""The next step for rows that were not fixed is that of their outcome."""

from __future__ import annotations

import pytest

from remediation.journal.outcomes import Outcome, OutcomeGroup
from reports.left import next_step_for


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
