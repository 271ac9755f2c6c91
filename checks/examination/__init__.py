"""Scans each table once and judges what was measured.

May import the rooms below it: `row_checks`, `targets`, `database` and `settings`.
"""
