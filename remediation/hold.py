"""Why a repair waits. A value only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """The reason for a pause, in words."""

    reason: str
    beginning: bool = False
    """Nothing is wrong as far as is known: what a limit needs is still being measured."""
