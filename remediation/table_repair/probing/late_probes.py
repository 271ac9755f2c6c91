"""Probes that have no answer yet while those of other tenants have: their tenants alone wait.

A slow endpoint would else hold up every tenant of its table. Used by one thread at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from remediation.provider.usage import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from remediation.throttling.budget import Budget

LATE_SECONDS = 3.0
"""Within them nearly every answer comes; who takes longer holds nobody else up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LateProbe:
    """A probe that is not answered yet, with the tokens that are reserved for it."""

    tenant: str | None
    tokens: int
    answer: Future[Any]
    """Of a `ProbeResult`."""


@dataclass(kw_only=True, slots=True)
class LateProbes:
    """Of one table. `on_answer` learns from each before its tenant goes on."""

    budget: Budget
    on_answer: Callable[[Any], None]
    waiting: dict[str | None, LateProbe] = field(default_factory=dict)

    @property
    def tenants(self) -> frozenset[str | None]:
        """Those of whom nothing may be sent yet."""
        return frozenset(self.waiting)

    def wait_for(self, late: LateProbe) -> None:
        """Have a tenant wait for its probe."""
        self.waiting[late.tenant] = late

    def take_in(self) -> None:
        """Learn from those that were answered meanwhile. Raises what one of them raises."""
        for late in [late for late in self.waiting.values() if late.answer.done()]:
            del self.waiting[late.tenant]
            result = late.answer.result()
            self.budget.settle(reserved=late.tokens, took=result.usage)
            self.on_answer(result)

    def close(self) -> None:
        """Wait for none of them any longer."""
        for late in self.waiting.values():
            late.answer.cancel()
            self.budget.settle(reserved=late.tokens, took=NOTHING)
        self.waiting.clear()
