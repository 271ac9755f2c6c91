"""Batches whose key has to wait, put aside so that other tenants' batches go on; a bounded number.

Holds them and says which is next; sends nothing and decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remediation.provider.tries import Tries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remediation.selection.batching import Batch

MOST_PARKED = 64
"""Batches put aside before they are sent: beyond it the stream of rows waits with them. Those that
come back from the provider are put aside whatever their number, which `concurrency` bounds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A batch that is not sent yet, or is to be sent again after the tries that failed."""

    batch: Batch
    tries: Tries = field(default_factory=Tries)
    reserved: bool = False
    """Whether it was let through under the caps before, and its tokens are reserved."""


class Parked:
    """In the order in which they were put aside, those that were tried most often first."""

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        return len(self._waiting) >= MOST_PARKED

    @property
    def batches(self) -> Iterator[Batch]:
        return (waiting.batch for waiting in self._waiting)

    def holds(self, tenant: str | None) -> bool:
        """Whether a batch of the tenant is put aside: a later one does not overtake it."""
        return any(batch.tenant == tenant for batch in self.batches)

    def put(self, waiting: Waiting) -> None:
        """Put a batch aside."""
        self._waiting.append(waiting)
        # Stable: of one key the batch that failed is tried to its end before the next is begun.
        self._waiting.sort(key=lambda each: -each.tries.failed)

    def take(self, may_go: Callable[[Waiting], bool]) -> Waiting | None:
        """The first that may go, or None; of a tenant none before the one ahead of it."""
        behind: set[str | None] = set()
        for position, waiting in enumerate(self._waiting):
            if waiting.batch.tenant in behind:
                continue
            if may_go(waiting):
                return self._waiting.pop(position)
            behind.add(waiting.batch.tenant)
        return None
