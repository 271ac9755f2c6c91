"""Builds the incident of 382 rows on an embedded PostgreSQL, with an offline provider."""
