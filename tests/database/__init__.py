"""Tests connections, the catalog, SQL expressions and types."""
