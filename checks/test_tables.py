"""Asserts what must hold of each declared table as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from checks.items.checked_case import CheckedCase


def test_schema(table_check: CheckedCase) -> None:
    """Table, columns, key, types and extension are as declared, and no row is hidden from us."""
    table_check.must_hold()


def test_index(index_check: CheckedCase) -> None:
    """The declared index is there and valid, fits the metric, and leaves no row out."""
    index_check.must_hold()


def test_gaps(gap_check: CheckedCase) -> None:
    """Every row of the store has its row in the table, and every row of the source a chunk."""
    gap_check.must_hold()


def test_tenants(tenant_check: CheckedCase) -> None:
    """A declared tenant has rows."""
    tenant_check.must_hold()
