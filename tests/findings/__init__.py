"""Tests findings and what was accepted of them."""
