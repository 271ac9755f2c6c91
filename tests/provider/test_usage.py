"""What asking a provider took, from an answer that does not say it to the words of a report."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from remediation.provider.usage import NOTHING, Usage
from remediation.run.repair_run import RepairRun
from reports.account.repaired import repair_of
from reports.page import html, wording
from tests.builders.incidents import incident
from tests.drivers.page import Page
from tests.drivers.repairs import docs, environment, repaired, settings
from tests.servers.provider_server import ProviderServer, Reply

if TYPE_CHECKING:
    from pathlib import Path

    from reports.values.incident import Incident


def test_usages_add_up_part_by_part() -> None:
    one = Usage(requests=3, unanswered=1, tokens=40, unsaid=7)
    other = Usage(requests=5, unanswered=2, tokens=10, unsaid=1)
    assert one + other == Usage(requests=8, unanswered=3, tokens=50, unsaid=8)
    assert one + NOTHING == one
    assert sum([one, other], NOTHING).reckoned == 58
    assert (one.tokens_are_known, NOTHING.tokens_are_known) == (False, True)


@pytest.mark.parametrize(
    ("tokens", "unsaid", "words"),
    [
        (0, 0, "0 tokens billed"),
        (1, 0, "1 token billed"),
        (48_342, 0, "48,342 tokens billed"),
        (
            1_200,
            1_015,
            "at least 1,200 tokens billed, and 1,015 more by our own count,"
            " as some answers did not say, or said more than can be",
        ),
        (0, 15, "15 tokens by our own count, as no answer said credibly how many were billed"),
    ],
)
def test_billed_is_said_only_of_what_answers_said(tokens: int, unsaid: int, words: str) -> None:
    assert wording.tokens_taken(Usage(tokens=tokens, unsaid=unsaid)) == words


def with_usage(**usage: int) -> Incident:
    whole = incident()
    assert whole.repair is not None
    return whole.model_copy(update={"repair": whole.repair.model_copy(update=usage)})


def test_the_report_says_billed_only_where_every_answer_said_its_tokens() -> None:
    whole = Page(html.render(with_usage())).words
    assert "14 requests to the provider; 48,342 tokens billed;" in whole
    part = Page(html.render(with_usage(requests_unanswered=2, tokens=40, tokens_unsaid=15))).words
    assert "14 requests to the provider, 2 of them without a usable answer; at least 40 " in part
    assert "and 15 more by our own count, as some answers did not say, " in part
    assert "40 tokens billed;" not in part


def test_a_repair_of_which_one_answer_says_no_tokens_reports_both_numbers(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (0, 20)}), ProviderServer() as server:
        server.next(Reply(status=503), Reply(change=lambda body: body.pop("usage")))
        done = repaired(database, settings(server), tmp_path, keys=environment("acme"))
        assert done.counts() == {"selected": 20, "fixed": 20}
        usage = done.docs.usage
        assert (usage.requests, usage.unanswered) == (len(server.requests), 1)
        # Of 20 texts of 4 words 5 are in a request; the server bills a token a word, we count 6.
        assert (usage.tokens, usage.unsaid) == (4 * 15, 6 * 5)
        run = RepairRun(
            run_id="r",
            started_at=datetime.now(UTC),
            dry_run=False,
            report_directory=tmp_path,
            plan=done.plan,
        )
        run.results.append(done.docs)
        reported = repair_of(run)
        assert reported is not None
        written = json.loads(reported.model_dump_json())
        names = ("requests", "requests_unanswered", "tokens", "tokens_unsaid")
        assert [written[name] for name in names] == [len(server.requests), 1, 60, 30]
        assert written["dollars"] == pytest.approx(done.plan.dollars_of(90))
