"""Draws and words the pieces of the incident's page that are more than a table of its values."""
