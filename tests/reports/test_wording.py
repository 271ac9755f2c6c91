"""Amounts of money as a person reads them, on the terminal and in reports alike."""

from __future__ import annotations

import pytest

from checks.wording import dollars
from reports.page.wording import cost


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (0, "$0.00"),
        (0.000001, "under $0.00001"),
        (0.00000999, "under $0.00001"),
        (0.00001, "$0.00001"),
        (0.00062, "$0.00062"),
        (0.0005, "$0.0005"),
        (0.009999, "$0.01"),
        (0.01, "$0.01"),
        (0.994, "$0.99"),
        (12.5, "$12.50"),
        (25, "$25.00"),
        (1234567.891, "$1,234,567.89"),
    ],
)
def test_an_amount_keeps_the_digits_that_show_it(amount: float, words: str) -> None:
    assert dollars(amount) == words
    assert cost(amount) == words


def test_what_has_no_price_is_not_said_to_be_free() -> None:
    assert cost(None) == "price not known"
