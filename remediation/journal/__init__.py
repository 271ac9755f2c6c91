"""Keeps what became of each row, as evidence and for an undo.

May import the rooms `selection` and `provider`.
"""
