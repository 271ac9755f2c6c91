"""Tests what the suites decide, and the import of Great Expectations."""
