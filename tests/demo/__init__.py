"""Tests the demo and its provider."""
