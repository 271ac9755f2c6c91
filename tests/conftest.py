"""Fixtures that every test may use; those of one kind live in a module of their own."""

from tests.databases import database, server_url

__all__ = ["database", "server_url"]
