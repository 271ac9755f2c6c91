"""Asserts what must hold of the rows of each segment: one tenant's rows in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from checks.items.checked_case import CheckedCase


def test_rows(row_check: CheckedCase) -> None:
    """No more rows of the segment fail the check than its threshold tolerates."""
    row_check.must_hold()
