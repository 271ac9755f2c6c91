"""Turns what was examined into pytest items, and judges each.

May import `examination` and the rooms below it.
"""
