"""Writes a run in every form that is kept or that another tool reads; the files of a report."""
