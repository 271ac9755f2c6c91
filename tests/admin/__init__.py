"""Tests the admin endpoint over real HTTP."""
