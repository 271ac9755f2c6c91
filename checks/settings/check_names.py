"""Names the checks that are not row checks. Imports nothing."""

TABLE_CHECKS = ("schema", "tenants", "index")

CANARIES = ("drift", "retrieval")
"""The sampled checks, which run only with --canary."""
