"""Decides what an acceptance of known failures covers, and when it ends.

Decides by values alone; the caller says which day it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from checks.findings.finding import tenant_words

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from checks.settings.table_checks import Accepted
    from checks.settings.tables import Table


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Whether an acceptance covers a failure, and why, or why no longer, in words."""

    accepted: bool
    words: str


def today_in_utc() -> date:
    """Today in UTC, by which acceptances end: the same day wherever the run takes place."""
    return datetime.now(UTC).date()


def acceptances_of(declared: Table) -> Mapping[tuple[str, str | None], Accepted]:
    """Every acceptance of a declaration, by check and tenant (None: rows without a tenant)."""
    return {
        (check, accepted.tenant): accepted
        for check in declared.checks
        if declared.check_settings(check).enabled
        for accepted in declared.check_settings(check).accept
    }


def decide(accepted: Accepted, *, failing: int, today: date) -> Decision:
    """Whether an acceptance covers `failing` rows today; its last day is included."""
    reasons = []
    if failing > accepted.rows:
        reasons.append(f"{accepted.rows:,} rows were accepted ({accepted.reason}), there are more")
    if today > accepted.until:
        reasons.append(
            f"it was accepted until {accepted.until} ({accepted.reason}), a day that has passed"
        )
    if reasons:
        return Decision(
            accepted=False, words=f"{'; '.join(reasons)}: repair them, or agree on it anew"
        )
    words = f"accepted until {accepted.until}, up to {accepted.rows:,} rows: {accepted.reason}"
    return Decision(accepted=True, words=words)


def not_needed(check: str, tenant: str | None, table: str) -> str:
    """The words for an acceptance whose check holds."""
    return (
        f"{check} holds for {tenant_words(tenant)} in {table}: the acceptance is no longer needed;"
        " remove it"
    )


def not_known(check: str, tenant: str | None, table: str) -> str:
    """The words for an acceptance of a tenant that has no rows."""
    return (
        f"an acceptance of {check} is for {tenant_words(tenant)}, who has no rows in {table};"
        " correct its tenant, or remove it"
    )


def not_applied(check: str, table: str) -> str:
    """The words for an acceptance of a check that the table's declaration does not call for."""
    return f"{check} does not apply to {table}, so nothing of it can be accepted; remove it"
