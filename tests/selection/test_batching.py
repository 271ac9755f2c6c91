"""What batching promises for any stream of rows: every row once, one tenant a batch, bounded."""

from __future__ import annotations

import sys
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.provider.tokens import EstimatedTokens
from remediation.selection.batching import FIRST_ROWS, Batch, BatchLimits, FailingRow, batches

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNTER = EstimatedTokens()


def row(number: int, tenant: str | None, text: str = "text") -> FailingRow:
    return FailingRow(
        key=(str(number),),
        tenant=tenant,
        text=text,
        text_hash="",
        vector_hash=None,
        checks=("completeness",),
    )


def batched(stream: list[FailingRow], **limits: int) -> list[Batch]:
    return list(batches(stream, limits=BatchLimits(**limits), counter=COUNTER))


streams = st.lists(
    st.tuples(
        st.sampled_from([None, "", "acme", "globex", "umbrella"]),
        st.text(alphabet="aя日", max_size=40),
    ),
    max_size=80,
).map(lambda pairs: [row(number, *pair) for number, pair in enumerate(pairs)])
limits_of_any_size = st.builds(
    BatchLimits,
    rows=st.integers(1, 9),
    tokens_per_request=st.integers(1, 60),
    buffered_rows=st.integers(1, 25),
    buffered_bytes=st.integers(1, 3000),
)


@given(streams, limits_of_any_size)
def test_every_row_is_in_one_batch_of_its_own_tenant_and_in_order(
    rows: list[FailingRow], limits: BatchLimits
) -> None:
    by_tenant: dict[str | None, list[FailingRow]] = defaultdict(list)
    for batch in batches(rows, limits=limits, counter=COUNTER):
        assert batch.rows
        assert {each.tenant for each in batch.rows} == {batch.tenant}
        by_tenant[batch.tenant].extend(batch.rows)
    for tenant, found in by_tenant.items():
        assert found == [each for each in rows if each.tenant == tenant]
    assert sum(map(len, by_tenant.values())) == len(rows)


@given(streams, limits_of_any_size)
def test_a_batch_keeps_the_limits_of_a_request(rows: list[FailingRow], limits: BatchLimits) -> None:
    for batch in batches(rows, limits=limits, counter=COUNTER):
        assert batch.tokens == sum(COUNTER.count(each.text) for each in batch.rows)
        assert len(batch.rows) <= limits.rows
        assert batch.tokens <= limits.tokens_per_request or len(batch.rows) == 1


@given(streams, limits_of_any_size)
def test_what_waits_in_memory_stays_within_the_limits(
    rows: list[FailingRow], limits: BatchLimits
) -> None:
    taken: list[FailingRow] = []
    given_back = bytes_back = 0

    def stream() -> Iterator[FailingRow]:
        for each in rows:
            # At this moment everything taken and not given back is waiting in memory.
            assert len(taken) - given_back <= limits.buffered_rows
            waiting = sum(sys.getsizeof(other.text) for other in taken) - bytes_back
            assert waiting <= limits.buffered_bytes or len(taken) - given_back == 1
            taken.append(each)
            yield each

    for batch in batches(stream(), limits=limits, counter=COUNTER):
        given_back += len(batch.rows)
        bytes_back += sum(sys.getsizeof(each.text) for each in batch.rows)
    assert given_back == len(rows)


def test_interleaved_tenants_fill_whole_batches() -> None:
    rows = [row(number, f"tenant {number % 3}") for number in range(12)]
    assert [len(batch.rows) for batch in batched(rows, rows=4)] == [4, 4, 4]


def test_a_batch_leaves_when_it_is_full_and_the_first_at_the_size_of_the_first_write() -> None:
    taken = 0

    def endless() -> Iterator[FailingRow]:
        nonlocal taken
        while True:
            taken += 1
            yield row(taken, "acme")

    left = batches(endless(), limits=BatchLimits(rows=50), counter=COUNTER)
    assert len(next(left).rows) == taken == FIRST_ROWS
    assert len(next(left).rows) == 50
    assert taken == FIRST_ROWS + 50


def test_a_row_above_the_token_limit_goes_alone() -> None:
    rows = [row(0, "acme"), row(1, "acme", "long " * 100), row(2, "acme")]
    found = batched(rows, rows=50, tokens_per_request=20)
    assert [[each.key[0] for each in batch.rows] for batch in found] == [["0"], ["1"], ["2"]]


def test_null_and_the_empty_string_are_two_tenants() -> None:
    found = batched([row(0, None), row(1, "")], rows=50)
    assert [batch.tenant for batch in found] == [None, ""]


def test_when_memory_is_full_the_fullest_batch_leaves_first() -> None:
    rows = [*(row(number, "few") for number in range(2)), *(row(9, "many") for _ in range(3))]
    found = batched([*rows, row(10, "few")], rows=50, buffered_rows=5)
    assert [(batch.tenant, len(batch.rows)) for batch in found] == [("many", 3), ("few", 3)]


def test_ten_thousand_tenants_share_the_memory_and_lose_no_row() -> None:
    rows = [row(number, f"tenant {number % 10_000}") for number in range(30_000)]
    found = batched(rows, rows=50, buffered_rows=2_000)
    numbers = sorted(int(each.key[0]) for batch in found for each in batch.rows)
    assert numbers == list(range(30_000))
    for batch in found:
        keys = [int(each.key[0]) for each in batch.rows]
        assert all(earlier < later for earlier, later in pairwise(keys))


@pytest.mark.parametrize("name", ["rows", "tokens_per_request", "buffered_rows", "buffered_bytes"])
def test_a_limit_below_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"expected {name} of at least 1, found 0"):
        BatchLimits(**{"rows": 1, name: 0})
