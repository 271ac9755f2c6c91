"""Speaks to PostgreSQL: connections, the server, its catalog, SQL expressions, vector types.

May import no other room of ours.
"""
