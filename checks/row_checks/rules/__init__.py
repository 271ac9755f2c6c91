"""Holds the built-in row checks, one a module, each as `CHECK`: to add one, add a module here."""
