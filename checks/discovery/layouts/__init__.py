"""Tells by names and columns what a table is: a candidate, a framework's, a copy, one of keys."""
