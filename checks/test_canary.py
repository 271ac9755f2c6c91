"""Asserts what must hold of a sample of each segment's rows; asked only with --canary."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from checks.items.checked_case import CheckedCase


def test_drift(drift_check: CheckedCase) -> None:
    """The model gives the sampled texts the vectors that are stored."""
    drift_check.must_hold()


def test_retrieval(retrieval_check: CheckedCase) -> None:
    """Through the index, a stored vector finds its own row and the nearest others."""
    retrieval_check.must_hold()
