"""Serves a repair over HTTP: the endpoint that a person or a job calls by hand.

May import all of `remediation`; its door hands it what `reports` has.
"""
