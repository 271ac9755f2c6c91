"""Which checks there are beside the row checks. Names only."""

from __future__ import annotations

TABLE_CHECKS = ("schema", "tenants", "index")

CANARIES = ("drift", "retrieval")
"""The sampled checks, which run only with --canary."""
