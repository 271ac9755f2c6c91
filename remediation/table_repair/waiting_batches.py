"""Keeps batches that are not sent yet: each tenant's in their order, none of a tenant's overtakes.

Decides nothing and waits for nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remediation.provider.errors import Tries

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from remediation.selection.batching import Batch

MOST_WAITING = 64
"""Batches that wait before no more rows are read. Those that come back from the provider wait
whatever their number, which `concurrency` bounds."""
MOST_LATE = MOST_WAITING // 2
"""Of them, those of tenants whose endpoints are late: the other places are for others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitingBatch:
    """A batch that is not sent yet, or is to be sent again after the tries that failed."""

    batch: Batch
    tries: Tries = field(default_factory=Tries)
    reserved: bool = False
    """Whether it was let through under the caps before, and its tokens are reserved."""


@dataclass(kw_only=True, slots=True)
class WaitingBatches:
    """Of one table; used by one thread."""

    _of_tenant: dict[str | None, deque[WaitingBatch]] = field(default_factory=dict)
    _count: int = 0

    def __len__(self) -> int:
        return self._count

    @property
    def first(self) -> Iterator[WaitingBatch]:
        """The batch of each tenant whose turn is next."""
        return (batches[0] for batches in self._of_tenant.values())

    def put(self, waiting: WaitingBatch) -> None:
        """Add a batch behind those of its tenant."""
        self._of_tenant.setdefault(waiting.batch.tenant, deque()).append(waiting)
        self._count += 1

    def put_back(self, returned: Sequence[WaitingBatch]) -> None:
        """Add batches that came back, in their order, ahead of what their tenant has not begun."""
        for waiting in reversed(returned):
            self._of_tenant.setdefault(waiting.batch.tenant, deque()).appendleft(waiting)
            self._count += 1

    def of(self, tenants: Collection[str | None]) -> int:
        """How many batches of these tenants wait."""
        return sum(len(self._of_tenant.get(tenant, ())) for tenant in tenants)

    def lack(self, tenant: str | None) -> bool:
        """Whether no batch of the tenant waits."""
        return tenant not in self._of_tenant

    def take_last(self, tenants: Collection[str | None], *, most: int) -> Iterator[WaitingBatch]:
        """Take out of what these tenants have until no more than `most` are left.

        The last batch, again and again, of who has the most.
        """
        surplus = self.of(tenants) - most
        for _ in range(surplus):
            tenant = max(tenants, key=lambda tenant: len(self._of_tenant.get(tenant, ())))
            batches = self._of_tenant[tenant]
            yield batches.pop()
            if not batches:
                del self._of_tenant[tenant]
            self._count -= 1

    def take(self, may_go: Callable[[WaitingBatch], bool]) -> WaitingBatch | None:
        """The first whose turn it is and that may go, or None. Tenants take turns."""
        for waiting in self.first:
            if may_go(waiting):
                break
        else:
            return None
        tenant = waiting.batch.tenant
        batches = self._of_tenant.pop(tenant)
        batches.popleft()
        if batches:
            self._of_tenant[tenant] = batches
        self._count -= 1
        return waiting
