"""Writes what a run found in the forms that other tools read: metrics, messages, summaries."""
