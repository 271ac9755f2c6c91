"""Writes to the user's tables under guard, and says what came of it; nothing else does.

May import the rooms `journal`, `selection` and `provider`.
"""
