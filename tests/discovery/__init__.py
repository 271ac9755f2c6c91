"""Tests the guesses of a settings file."""
