"""Tests drift and retrieval."""
