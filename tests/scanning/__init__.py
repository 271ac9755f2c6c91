"""Tests scans of tables: whole ones, parts, many at once."""
