"""Tests the report, and what is said on the terminal."""
