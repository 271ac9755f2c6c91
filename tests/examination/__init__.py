"""Tests scans, suites, findings and what pytest collects."""
