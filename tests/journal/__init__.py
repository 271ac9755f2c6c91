"""Tests the journal, the outcomes and the quarantine."""
