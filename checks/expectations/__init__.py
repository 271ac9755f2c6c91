"""Asks Great Expectations what holds of what was measured.

Knows no database: it is given counts, and gives back verdicts.
"""
