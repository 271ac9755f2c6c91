"""Tests pauses, and what they are for."""
