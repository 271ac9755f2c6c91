"""Holds what a report says, as frozen values: what `incident.json` is made of."""
