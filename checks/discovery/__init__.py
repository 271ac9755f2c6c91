"""Guesses a settings file from a live database. Reads the catalog and bounded samples only."""
