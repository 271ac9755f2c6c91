"""Puts back what an earlier run replaced. May import the room `run` and those below it."""
