"""The account of a repair adds up, row by row and group by group."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remediation.journal.outcomes import MOST_REASONS, SAMPLE_KEYS, Account, Outcome
from remediation.selection.batching import FailingRow


def _row(key: int, tenant: str | None = None) -> FailingRow:
    return FailingRow(
        key=(str(key),), tenant=tenant, text="", text_hash="", vector_hash=None, checks=("noted",)
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, "", "acme", "globex"]),
            st.sampled_from(Outcome),
            st.sampled_from(["", "a reason", "another"]),
        )
    )
)
def test_groups_and_counts_say_the_same(entries: list[tuple[str | None, Outcome, str]]) -> None:
    account = Account()
    for key, (tenant, outcome, reason) in enumerate(entries):
        account.add(_row(key, tenant), outcome, reason)
    assert account.settled == len(entries) == sum(group.rows for group in account.groups)
    for outcome in Outcome:
        assert account.count(outcome) == sum(entry[1] is outcome for entry in entries)
    assert len(account.groups) == len(set(entries))
    for each in account.groups:
        assert each.rows == entries.count((each.tenant, each.outcome, each.reason))
        assert len(each.sample_keys) == min(SAMPLE_KEYS, each.rows)


def test_a_reopened_row_leaves_its_group_until_it_is_settled_again() -> None:
    account = Account(selected=1)
    account.add(_row(1, "acme"), Outcome.FIXED, "text cut to 8 tokens")
    account.reopen("acme", "text cut to 8 tokens")
    assert account.settled == 0
    assert list(account.groups) == []
    account.add(_row(1, "acme"), Outcome.SUPERSEDED, "edited")
    assert [(group.outcome, group.rows) for group in account.groups] == [(Outcome.SUPERSEDED, 1)]


def test_the_largest_group_comes_first() -> None:
    account = Account()
    for key in range(3):
        account.add(_row(key), Outcome.FAILED, "few" if key == 0 else "many")
    assert [group.reason for group in account.groups] == ["many", "few"]


def test_reasons_without_number_are_told_as_one_and_a_reopened_row_leaves_its_own() -> None:
    account = Account()
    for key in range(5_000):
        account.add(_row(key), Outcome.FIXED, f"text cut to {key} bytes")
    for key in (0, 4_999):
        account.reopen(None, f"text cut to {key} bytes")
    assert len(account.groups) == MOST_REASONS
    assert account.settled == sum(group.rows for group in account.groups) == 4_998
