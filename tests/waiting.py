"""Waiting for what another process or session is to do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 120.0
"""A run of pytest imports for seconds, on a busy machine for many."""


def wait_until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Return when the condition holds. Raises AssertionError where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"what was waited for did not come within {seconds:g} s")
        time.sleep(0.05)
