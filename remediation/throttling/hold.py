"""Why a repair waits. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """The reason for a pause, in words."""

    reason: str
    expected: bool = False
    """Nothing is wrong as far as is known: a limit is kept, or what it needs is being measured."""


def keys_must_wait(seconds: float) -> Hold:
    """Every key that is needed has to wait for so long."""
    return Hold(
        reason=f"every key that is needed has to wait, the first for {seconds:,.0f} s (its provider"
        " wants it to, or requests_per_minute and tokens_per_minute of [repair])",
        expected=True,
    )
