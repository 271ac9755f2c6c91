"""Tests guarded writes, locks and edits."""
