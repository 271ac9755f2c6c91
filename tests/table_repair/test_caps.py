"""The caps of a repair, of rows and of dollars, which are never passed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.drivers.repairs import docs, environment, opened, repaired, settings
from tests.servers.provider_server import ProviderServer, Reply

if TYPE_CHECKING:
    from pathlib import Path

    from remediation.journal.outcomes import Outcome

KEYS = environment("acme", "globex")


@pytest.mark.parametrize(("cap", "fixed"), [(1, 1), (7, 7), (20, 20), (1000, 40)])
def test_the_cap_of_rows_is_used_to_the_last_row_and_the_rest_is_skipped(
    database: str, tmp_path: Path, cap: int, fixed: int
) -> None:
    with docs(database, {"acme": (0, 25), "globex": (0, 15)}) as table, ProviderServer() as server:
        done = repaired(database, settings(server, repair={"max_rows": cap}), tmp_path, keys=KEYS)
        expected = {"selected": 40, "fixed": fixed, "skipped": 40 - fixed}
        assert done.counts() == {name: count for name, count in expected.items() if count}
        assert len(table.wrong()) == 40 - fixed
        assert len(server.texts) == fixed
        stopped = f"the cap of {cap:,} rows is reached (--max-rows)" if fixed < 40 else None
        assert done.docs.stopped == stopped


def test_the_cap_of_dollars_is_never_passed(database: str, tmp_path: Path) -> None:
    # A text has 4 words, and the server bills a token a word: 20 tokens, 20 dollars, a request.
    prices = {"price_per_million_tokens": 1_000_000.0}
    with docs(database, {"acme": (0, 40)}) as table, ProviderServer() as server:
        chosen = settings(server, provider=prices, repair={"max_cost": 70.0})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.docs.stopped == "the cap of $70.00 is reached (--max-cost)"
        counts = done.counts()
        assert counts["fixed"] + counts["skipped"] == counts["selected"] == 40
        assert done.docs.usage.tokens == 4 * len(server.texts) <= 70
        assert 5 <= counts["fixed"] == 40 - len(table.wrong())


def test_answers_that_are_of_no_use_count_against_the_cap_of_dollars(
    database: str, tmp_path: Path
) -> None:
    # Five texts are counted at 30 tokens; the first request is tried three times, and a harmless
    # text twice.
    prices = {"price_per_million_tokens": 1_000_000.0}
    with docs(database, {"acme": (0, 20)}), ProviderServer() as server:
        server.always(Reply(body=b"<html>welcome</html>"))
        chosen = settings(server, provider=prices, repair={"max_cost": 100.0})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.docs.stopped == "the cap of $100.00 is reached (--max-cost)"
        assert done.counts() == {"selected": 20, "failed": 5, "skipped": 15}
        assert len(server.requests) == 5


def test_what_is_in_flight_may_turn_out_to_cost_less_than_it_was_counted(
    database: str, tmp_path: Path
) -> None:
    # Counted at 7 tokens a text and billed at 4: all 40 rows fit under the cap only as billed.
    prices = {"price_per_million_tokens": 1_000_000.0}
    with docs(database, {"acme": (0, 40)}) as table, ProviderServer() as server:
        server.always(Reply(pause=0.05))
        chosen = settings(server, provider=prices, repair={"max_cost": 176.0})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 40, "fixed": 40}
        assert table.wrong() == []


def test_a_cap_of_no_dollars_allows_no_probe_either(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (3, 4)}), ProviderServer() as server:
        chosen = settings(server, repair={"max_cost": 0.0})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.docs.stopped == "the cap of $0.00 is reached (--max-cost)"
        assert done.counts() == {"selected": 4, "skipped": 4}
        assert server.requests == []


def test_a_repair_that_breaks_off_reserves_nothing_of_the_budget_any_more(
    database: str, tmp_path: Path
) -> None:
    """Two batches are asked for, or wait to be asked again, when the outcome of a third raises."""
    with docs(database, {"acme": (0, 20), "globex": (0, 20)}) as table, ProviderServer() as server:
        server.always(Reply(status=503, headers={"Retry-After": "60"}))
        chosen = settings(server)
        settled: list[Outcome] = []

        def break_down(outcome: Outcome) -> None:
            settled.append(outcome)
            server.wait_for_requests(2)
            raise ZeroDivisionError

        table.execute("INSERT INTO docs (id, tenant, body) VALUES (100, 'initech', 'no key')")
        with opened(database, chosen, keys=KEYS) as repair:
            plan = repair.plan()
            with pytest.raises(ZeroDivisionError):
                repair.run(plan, tmp_path, break_down)
            assert settled
            assert len(server.requests) == 2
            assert repair.budget.reserved == 0
