"""Tests requests to providers, keys, limits and retries."""
