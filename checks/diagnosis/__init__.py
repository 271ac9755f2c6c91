"""Tells what the failing rows have in common, from the data alone: evidence, never one cause.

Reads only, a bounded number of statements for each table that has failing rows.
"""
