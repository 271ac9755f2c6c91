"""Asks providers for embeddings, each tenant with its own key.

May import `checks`, and no other room of `remediation`.
"""
