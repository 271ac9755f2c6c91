"""Repairs one table: probe, plan, requests, writes, outcomes.

May import the rooms below it: `writing`, `throttling`, `journal`, `selection` and `provider`.
"""
