"""Holds what coordinator and workers share: runs, jobs, limits, caps and lines of the journal.

All of it lies in a schema of its own.
"""
