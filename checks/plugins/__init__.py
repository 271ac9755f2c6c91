"""Adds a feature each to pytest's side of the checks; what is asked and judged is elsewhere."""
