"""Defines what repairs the rows of one table: the engine, or many workers' engines together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from remediation.journal.outcomes import Account
    from remediation.journal.throughput import Throughput


class RowRepair(Protocol):
    """Repairs the rows of one table."""

    @property
    def account(self) -> Account:
        """The outcomes so far."""

    @property
    def stopped(self) -> str | None:
        """Why it ended before its last row; None where it did not."""

    @property
    def throughput(self) -> Throughput | None:
        """What its requests and its writes took, where that was measured."""

    def run(self) -> None:
        """Repair; see `Engine.run`."""


EngineOf: TypeAlias = "Callable[..., RowRepair]"
"""Takes what `Engine` takes."""
