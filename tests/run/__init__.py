"""Tests whole runs, from their options to their end."""
