"""Remembers whose key works, which checks heal and what is no use, and stops the rest.

A rule that never heals and a dead key then cost one request, not one per thread. Values only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remediation.journal.outcomes import Outcome
from remediation.provider.errors import (
    KeyRefused,
    ModelUnavailable,
    ProviderUnavailable,
    Slow,
    UntrustworthyResponse,
)
from remediation.provider.usage import NOTHING, Usage
from remediation.table_repair.tenant_endpoints import TenantEndpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from checks.targets.target import Target
    from remediation.journal.outcomes import RowOutcome
    from remediation.provider.errors import ProviderError
    from remediation.selection.batching import Batch, FailingRow

UNHEALED_WRITES = 3
"""Writes in a row none of whose rows was healed before a proven check is given up."""
OUTAGES = 3
"""Requests in a row that a tenant's provider leaves without a usable answer, retries included."""
TRIES_TO_JUDGE = 50
"""Tries of a tenant from which on the share of them without a usable answer stops it: over half."""


@dataclass(kw_only=True, slots=True)
class CircuitBreaker:
    """Of one table; used by one thread."""

    table: str
    endpoints: TenantEndpoints = field(default_factory=TenantEndpoints)
    """What is known of them beyond this table."""
    healed_anyway: frozenset[str] = frozenset()
    """See `healed_by_any_vector`: nothing waits for the proof that these are healed."""
    stopped_checks: dict[str, str] = field(default_factory=dict)
    """Checks that our writes do not heal, and why."""
    stopped_tenants: dict[str | None, str] = field(default_factory=dict)
    """Tenants for whom asking is no use, and why."""
    broke: tuple[str, ...] = ()
    """Checks that most rows of a write failed since, and did not before."""
    _trusted: set[str | None] = field(default_factory=set)
    _outages: dict[str | None, int] = field(default_factory=dict)
    _took: dict[str | None, Usage] = field(default_factory=dict)
    _healed: set[str] = field(default_factory=set)
    _unhealed: dict[str, _Unhealed] = field(default_factory=dict)

    @property
    def usage(self) -> Usage:
        """What all requests took."""
        return sum(self._took.values(), NOTHING)

    def answered(
        self, tenant: str | None, failure: ProviderError | None, usage: Usage = NOTHING
    ) -> None:
        """Learn from a request of a tenant: what it came to, and what it took.

        A text that is refused is an answer. One that is to be asked for again (NotYet) is neither.
        """
        took = self._took[tenant] = self._took.get(tenant, NOTHING) + usage
        if failure is None:
            self._trusted.add(tenant)
            self._outages.pop(tenant, None)
        elif isinstance(failure, KeyRefused):
            self._stop(tenant, failure.reason)
        elif isinstance(failure, ModelUnavailable):  # another table may name another model
            self.stopped_tenants.setdefault(tenant, failure.reason)
        elif isinstance(failure, (ProviderUnavailable, UntrustworthyResponse)):
            outages = self._outages[tenant] = self._outages.get(tenant, 0) + 1
            if isinstance(failure, Slow):  # two minutes and more have passed
                self._stop(tenant, f"given up: {failure.reason}")
            elif outages >= OUTAGES:
                self._stop(tenant, f"given up after {outages} requests in a row: {failure.reason}")
        mostly_unanswered = took.requests >= TRIES_TO_JUDGE and 2 * took.unanswered > took.requests
        if failure is not None and mostly_unanswered:
            self._stop(
                tenant,
                f"given up, as {took.unanswered:,} of {took.requests:,} tries had no usable answer:"
                f" {failure.reason}",
            )

    def _stop(self, tenant: str | None, reason: str) -> None:
        """Ask nothing more of a tenant's endpoint, whichever table it is for."""
        self.stopped_tenants.setdefault(tenant, reason)
        self.endpoints.stopped.setdefault(tenant, reason)

    def spent(self, tenant: str | None, usage: Usage) -> None:
        """Account for requests that tell nothing of a tenant's key."""
        self._took[tenant] = self._took.get(tenant, NOTHING) + usage

    def breaks(self, outcomes: Sequence[RowOutcome]) -> str | None:
        """Why nothing more may be written after a write that made most of its rows fail a check.

        A few may be somebody else's doing, in the moment between the write and the look at it.
        """
        broken = [outcome for outcome in outcomes if outcome.broke]
        written = sum(outcome.written for outcome in outcomes)
        if not broken or 2 * len(broken) <= written:
            return None
        self.broke = tuple(dict.fromkeys(name for outcome in broken for name in outcome.broke))
        return (
            f"the repair of {self.table} breaks {', '.join(self.broke)}: {len(broken):,} of"
            f" {written:,} rows fail it since they were written, and did not before"
        )

    def written(
        self,
        outcomes: Sequence[RowOutcome],
        in_flight: Iterable[FailingRow],
        *,
        suspects: Callable[[], str],
    ) -> None:
        """Learn from what was written: a check that it heals no row of must not bill forever.

        What is in flight may still prove a check. `suspects` names what may undo a write.
        """
        healed: set[str] = set()
        unhealed: dict[str, str] = {}
        for outcome in outcomes:
            unhealed |= dict.fromkeys(outcome.unhealed, outcome.reason)
            if outcome.outcome is Outcome.FIXED or (outcome.unhealed and outcome.written_hash):
                healed.update(set(outcome.row.checks).difference(outcome.unhealed))
        for check, reason in unhealed.items():
            writes = self._unhealed[check].writes + 1 if check in self._unhealed else 1
            self._unhealed[check] = _Unhealed(writes=writes, reason=reason)
        self._healed |= healed
        for check in healed & self._unhealed.keys():
            del self._unhealed[check]
        if not self._unhealed:
            return
        to_come = {check for row in in_flight for check in row.checks}
        for check, vain in self._unhealed.items():
            if check in self.stopped_checks:
                continue
            many = vain.writes >= UNHEALED_WRITES
            if many if check in self._healed else check not in to_come:
                self.stopped_checks[check] = (
                    f"the repair of {check} does not heal {self.table}: {vain.reason}{suspects()}"
                )

    def hopeless(self, row: FailingRow) -> str | None:
        """Why nothing is asked for a row all of whose checks have stopped, or None."""
        if not self.stopped_checks or not self.stopped_checks.keys() >= set(row.checks):
            return None
        return "; ".join(self.stopped_checks[check] for check in row.checks)

    def check_is_unproven(self, batch: Batch, in_flight: Iterable[FailingRow]) -> bool:
        """Whether something in flight is yet to prove a check of the batch."""
        checks = {check for row in batch.rows for check in row.checks}
        proven = self._healed | (self.healed_anyway - self._unhealed.keys())
        unproven = checks - proven - self.stopped_checks.keys()
        return bool(unproven) and any(not unproven.isdisjoint(row.checks) for row in in_flight)

    def key_is_unproven(self, tenant: str | None) -> bool:
        """Whether nothing was answered to the tenant's key yet."""
        return tenant not in self._trusted


def healed_by_any_vector(target: Target) -> frozenset[str]:
    """The checks that a write of a vector heals, where nothing of the table's is in its way.

    A vector is only written once its dimension and its elements have been looked at.
    """
    holder = target.holder
    if target.store is not None or holder.kind != "r" or holder.triggered or holder.row_security:
        return frozenset()
    return frozenset({"completeness", "dimensionality", "degenerate"})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Unhealed:
    """What was written in vain of a check since it last healed a row."""

    writes: int
    reason: str
