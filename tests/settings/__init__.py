"""Tests the settings file, its faults, and the options that override it."""
