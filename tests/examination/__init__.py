"""Tests what a run examines, and what pytest collects."""
