"""Remembers what a run has learnt of its tenants' endpoints, from one table to the next.

Values only.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(kw_only=True, slots=True)
class TenantEndpoints:
    """Of one run; used by one thread at a time."""

    stopped: dict[str | None, str] = field(default_factory=dict)
    """Tenants for whom asking is no use in any table, and why."""
    late: set[str | None] = field(default_factory=set)
    """Tenants whose last answer took long, or has not come: others are served before them."""

    def prompt(self, tenant: str | None) -> bool:
        """Whether a tenant need not wait for its own endpoint, as far as is known."""
        return tenant not in self.late and tenant not in self.stopped
