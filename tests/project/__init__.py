"""Tests the documents, and the tests' own warm process."""
