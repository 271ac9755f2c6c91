"""Words findings: checks that do not hold for a segment or a table.

Values only; knows neither pytest nor the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from checks.expectations.measurements import Sampled
from checks.wording import number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from checks.expectations.measurements import Verdict
    from checks.settings.table_checks import Severity


SHOWN_CHARACTERS = 80
"""Of a tenant's name, in a message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A check that does not hold. Table checks have neither rows nor a query."""

    check: str
    table: str
    tenant: str | None
    whole_table: bool
    """True for a table check, where `tenant` means nothing."""
    severity: Severity
    says: str
    rows: int = 0
    failing: int = 0
    since: datetime | None = None
    until: datetime | None = None
    query: str | None = None
    uncounted: str | None = None
    """How sure `rows` is where they were not counted: "about", or "at least"."""
    changed_since: datetime | None = None
    """Where `rows` are only those that changed at this time or later."""
    sampled: bool = False
    """Whether `rows` are a sample of the segment's."""
    bound: str | None = None
    """What a sample tells of all rows of the segment, in words."""
    accepted: str | None = None
    """Until when and why it is accepted; then it neither fails the run nor is repaired."""
    beside: str | None = None
    """The store or source whose rows fail, where they are not the table's own."""
    outgrown: str | None = None
    """Why an acceptance that names it does not cover it."""
    unrepairable: str | None = None
    """Why no repair can write here, where one would otherwise mend the rows."""

    @property
    def message(self) -> str:
        """A few lines: what, where, how many, since when, and how to see the rows."""
        lines = [self.line]
        if self.bound is not None:
            lines.append(self.bound)
        if self.outgrown is not None:
            lines.append(self.outgrown)
        if self.unrepairable is not None:
            lines.append(f"no repair can mend this: {self.unrepairable}")
        if self.query is not None:
            those = "these and those that were not sampled" if self.bound is not None else "them"
            lines.append(f"show {those} with:\n{self.query}")
        return "\n".join(lines)

    @property
    def line(self) -> str:
        """What, where, how many and since when, on one line."""
        if self.whole_table:
            return f"{self.check}: {self.says}"
        where = f"{tenant_words(self.tenant)} in {self.table}"
        return f"{self.check}: {self.counted} of {where} {self.says}{self._period()}"

    @property
    def counted(self) -> str:
        """How many of how many rows fail, in words."""
        rows = f"{self.uncounted} {self.rows:,}" if self.uncounted else f"{self.rows:,}"
        noun = "sampled rows" if self.sampled else "rows"
        if self.changed_since is not None:
            noun += f" {changed_words(self.changed_since)}"
        return f"{self.failing:,} of {rows} {noun}"

    def _period(self) -> str:
        if self.since is None or self.until is None:
            return ""
        first, last = (f"{time:%Y-%m-%d %H:%M}" for time in (self.since, self.until))
        return f", created {first} UTC" if first == last else f", created {first} to {last} UTC"


def sampled_finding(table: str, verdict: Verdict) -> Finding:
    """The finding of a canary's verdict that does not hold, in the words of its sample."""
    sampled = verdict.sampled or Sampled()
    tenant = verdict.segment.tenant
    unseen = sampled.unseen is not None
    return Finding(
        check=verdict.check,
        table=table,
        tenant=tenant,
        # Nothing was counted: reported for the whole table, like one that could not be scanned.
        whole_table=unseen,
        severity=verdict.severity,
        says=f"could not look at {tenant_words(tenant)} in {table}: {sampled.unseen}"
        if unseen
        else sampled.says,
        rows=verdict.rows,
        failing=verdict.failing,
        query=sampled.query,
        sampled=True,
    )


def changed_words(since: datetime) -> str:
    """Which rows, where only those are looked at that changed since a moment."""
    return f"changed since {since:%Y-%m-%d %H:%M} UTC"


def tenant_words(tenant: str | None) -> str:
    """A tenant's name for a message on one line: control characters are shown, not sent.

    Names are the users' own and may be of any length; values and reports hold them whole.
    """
    if tenant is None:
        return "no tenant (NULL)"
    cut = tenant if len(tenant) <= SHOWN_CHARACTERS else tenant[:SHOWN_CHARACTERS] + "…"
    return f"tenant {cut!r}"


def tenants_words(tenants: Sequence[str | None], *, most: int) -> str:
    """The names of one tenant or several, of which `most` are told."""
    if len(tenants) == 1:
        return tenant_words(tenants[0])
    named = ", ".join(tenant_words(tenant).removeprefix("tenant ") for tenant in tenants[:most])
    more = len(tenants) - most
    return f"tenants {named}" + (f" and {number(more)} more" if more > 0 else "")
