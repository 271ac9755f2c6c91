"""Holds each declared table against the catalog. May import the rooms `settings` and `database`."""
