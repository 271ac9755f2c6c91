"""Repairs all tables of a run, from the preflight to the verification.

May import `table_repair` and the rooms below it.
"""
