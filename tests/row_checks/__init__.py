"""Tests which rows fail which check."""
