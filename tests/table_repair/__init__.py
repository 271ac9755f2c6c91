"""Tests the repair of one table."""
