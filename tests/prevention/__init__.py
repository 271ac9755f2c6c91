"""Tests the migration on real servers: run up, edited, repaired, run down."""
