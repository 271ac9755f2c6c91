"""Tests how an earlier run is taken back."""
