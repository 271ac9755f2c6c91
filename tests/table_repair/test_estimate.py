"""How long a repair takes: a formula, and what it rests on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from remediation.journal.past_throughput import JOURNALS, Past, look_back
from remediation.journal.throughput import Throughput
from remediation.provider.endpoint import Endpoint
from remediation.table_repair.planning.estimate import Estimate, Rates, rates_of
from tests.drivers.repairs import TABLE, docs, environment, opened, repaired, settings
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from pathlib import Path

    from remediation.run.repair import Repair

RATES = Rates(per_request=0.5, per_row=0.01, requests_known=4, source="")
ESTIMATE = Estimate(
    rates=RATES,
    probe_requests=9,
    requests=17,
    rows=800,
    concurrency=8,
    writers=2,
    begins_alone=True,
)
ENDPOINT = Endpoint(base_url="https://api.example.com/v1", model="m", dimensions=8)
MEASURED = Throughput(
    table=TABLE,
    host="api.example.com",
    model="m",
    indexed=True,
    requests=10,
    request_seconds=2.0,
    rows=100,
    row_seconds=1.5,
)
RUN = "20261112T203438Z-f36a3d"


def test_what_takes_longer_counts_rounds_of_requests_or_the_rows_of_the_writers() -> None:
    # Two rounds of the probe, one of the first batch alone, two of sixteen requests.
    assert ESTIMATE.seconds == 3 * 0.5 + 800 * 0.01 / 2
    assert replace(ESTIMATE, rows=100).seconds == 5 * 0.5
    # Three of all seventeen requests, and no round of its own for the first.
    assert replace(ESTIMATE, rows=100, begins_alone=False).seconds == 5 * 0.5
    assert replace(ESTIMATE, rows=100, requests=16, begins_alone=False).seconds == 4 * 0.5
    assert replace(ESTIMATE, by_limits=60.0).seconds == 60.0
    assert replace(ESTIMATE, requests=0).seconds == 0.0


def test_a_probe_of_many_requests_says_more_than_what_was_known() -> None:
    by_probe = ESTIMATE.after_probe(9 * 0.2)
    assert by_probe.rates.per_request == pytest.approx((4 * 0.5 + 9 * 0.2) / 13)
    assert by_probe.seconds == pytest.approx(by_probe.rates.per_request + 4.0)


def test_what_was_measured_is_used_and_the_rest_assumed() -> None:
    past = Past(runs=((RUN, MEASURED),))

    def rates(endpoint: Endpoint = ENDPOINT, table: str = TABLE) -> Rates:
        return rates_of(past, endpoint=endpoint, table=table, indexed_row=lambda: 0.02)

    both = "0.2 s a request and 15 ms a row for its index as in the run of 12 Nov 2026"
    assert (rates().per_request, rates().per_row, rates().source) == (0.2, 0.015, both)
    assert rates(table="public.other").source == (
        "0.2 s a request as in the run of 12 Nov 2026, assuming 21 ms a row for its index"
    )
    assert rates(replace(ENDPOINT, model="other")).source == (
        "15 ms a row for its index as in the run of 12 Nov 2026, assuming 0.25 s a request"
    )


def planned(repair: Repair) -> Estimate:
    (table,) = repair.plan().tables
    assert table.estimate is not None
    return table.estimate


def test_the_next_plan_rests_on_what_the_last_repair_took(database: str, tmp_path: Path) -> None:
    keys = environment("acme")
    with docs(database, {"acme": (2, 30)}) as table, ProviderServer() as server:
        chosen = settings(server)
        with opened(database, chosen, keys=keys) as repair:
            assert planned(repair).source.startswith("assuming")
        done = repaired(database, chosen, tmp_path, keys=keys)
        took = done.docs.throughput
        assert took is not None
        assert (took.requests, took.rows) == (6, 30)
        assert took.request_seconds > 0.0
        assert took.row_seconds > 0.0
        table.execute("UPDATE docs SET embedding = NULL")
        with opened(database, chosen, keys=keys, report_directory=tmp_path) as repair:
            estimate = planned(repair)
            assert estimate.rates.per_request == took.request_seconds / 6
            assert "as in the run of" in estimate.source
            database_of_it = repair.server.identity
        elsewhere = replace(database_of_it, system_identifier=1)
        assert look_back(tmp_path, elsewhere) == Past()
        assert look_back(tmp_path / "none", database_of_it) == Past()


def test_a_damaged_journal_says_nothing(tmp_path: Path, database: str) -> None:
    for number in range(JOURNALS + 1):
        folder = tmp_path / f"20261112T2034{number:02}Z-f36a3d"
        folder.mkdir()
        (folder / "journal.jsonl").write_text('{"event":"throughput","tab\n{"event":"run"}\n')
    chosen = settings("http://127.0.0.1:1/v1")
    with docs(database, {"acme": (0, 1)}), opened(database, chosen, keys={}) as repair:
        assert look_back(tmp_path, repair.server.identity) == Past()
