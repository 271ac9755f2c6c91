"""Tests how declared tables are held against the catalog."""
