"""Reads a table once and counts what fails in it: all of it, a part, or what lies beside it.

Judges nothing.
"""
