"""Gathers what the checks and the repair know into an incident: how it ended, and what is left."""
