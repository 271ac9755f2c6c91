"""Findings: checks that do not hold for a segment or a table, in words a person understands.

Values only; knows neither pytest nor the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from checks.rules import Severity


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A check that does not hold. Table checks have neither rows nor a query."""

    check: str
    table: str
    tenant: str | None
    whole_table: bool
    """True of a table check, where `tenant` says nothing."""
    severity: Severity
    says: str
    rows: int = 0
    failing: int = 0
    since: datetime | None = None
    until: datetime | None = None
    query: str | None = None

    @property
    def message(self) -> str:
        """One to three lines: what, where, how many, since when, and how to see the rows."""
        if self.whole_table:
            return f"{self.check}: {self.says}"
        lines = [
            f"{self.check}: {self.failing:,} of {self.rows:,} rows of"
            f" {tenant_words(self.tenant)} in {self.table} {self.says}{self._period()}"
        ]
        if self.query is not None:
            lines.append(f"show them with:\n{self.query}")
        return "\n".join(lines)

    def _period(self) -> str:
        if self.since is None or self.until is None:
            return ""
        first, last = (f"{time:%Y-%m-%d %H:%M}" for time in (self.since, self.until))
        return f", created {first} UTC" if first == last else f", created {first} to {last} UTC"


def tenant_words(tenant: str | None) -> str:
    """A tenant's name for a message on one line: control characters are shown, not sent."""
    if tenant is None:
        return "no tenant (NULL)"
    return f"tenant {tenant!r}"
