"""Holds what a repair or a rollback did to one table. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remediation.provider.usage import NOTHING, Usage

if TYPE_CHECKING:
    from remediation.journal.outcomes import Account
    from remediation.journal.throughput import Throughput
    from remediation.table_repair.probing.probe import ProbeResult


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRepair:
    """What came of one table. `stopped` says why the work ended before its last row."""

    table: str
    account: Account
    planned: int = 0
    """Rows that were to get an outcome, as the plan counted them."""
    usage: Usage = NOTHING
    stopped: str | None = None
    probes: tuple[ProbeResult, ...] = ()
    seconds: float = 0.0
    throughput: Throughput | None = None
    """How long requests and writes took; None where nothing was asked for."""

    @property
    def not_begun(self) -> int:
        """Rows of the plan that were not even read before the work ended early."""
        return 0 if self.stopped is None else max(0, self.planned - self.account.selected)
