"""Reserves rows and dollars under the caps of a run, before a request is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from checks.wording import dollars
from remediation.provider.usage import NOTHING, Usage

if TYPE_CHECKING:
    from checks.settings.integrity_toml import Settings

TOKENS_PER_PRICE = 1_000_000
"""Prices are in dollars per this many tokens."""


@dataclass(kw_only=True, slots=True)
class Budget:
    """Rows and dollars of one run over all its tables; used by one thread."""

    max_rows: int
    max_cost: float
    price_per_million_tokens: float
    rows: int = 0
    took: Usage = NOTHING
    """What the requests took that have come back."""
    reserved: int = 0
    """Tokens of requests that are in flight, as counted before they were sent."""

    def dollars(self, tokens: int) -> float:
        """What a number of tokens costs, in dollars."""
        return tokens * self.price_per_million_tokens / TOKENS_PER_PRICE

    @property
    def spent(self) -> float:
        """Dollars so far; what an answer did not say costs as it was counted before."""
        return self.dollars(self.took.reckoned)

    @property
    def no_rows_left(self) -> str:
        """The end by the cap of rows, in words."""
        return f"the cap of {self.max_rows:,} rows is reached (--max-rows)"

    @property
    def no_money_left(self) -> str:
        """The end by the cap of dollars, in words."""
        return f"the cap of {dollars(self.max_cost)} is reached (--max-cost)"

    def rows_left(self) -> int:
        """Rows that may still be sent."""
        return max(0, self.max_rows - self.rows)

    def grant(self, rows: int) -> int:
        """How many of so many rows may be sent."""
        return min(rows, self.rows_left())

    def affords(self, tokens: int) -> bool:
        """Whether a request fits under the cap even if everything in flight is billed."""
        return self.dollars(self.took.reckoned + self.reserved + tokens) <= self.max_cost

    def reserve(self, *, rows: int, tokens: int) -> None:
        """Count a request that is about to be sent."""
        self.rows += rows
        self.reserved += tokens

    def settle(self, *, reserved: int, took: Usage = NOTHING) -> None:
        """Replace a reservation by what the request took; nothing, where it was not sent."""
        self.reserved -= reserved
        self.took += took


def budget_of(settings: Settings) -> Budget:
    """The budget of a run that has spent nothing yet."""
    return Budget(
        max_rows=settings.repair.max_rows,
        max_cost=settings.repair.max_cost,
        price_per_million_tokens=settings.provider.price_per_million_tokens,
    )
