"""Fixtures that every test may use; those of one kind live in a module of their own."""

from tests.databases import database, server_url
from tests.runs import provided_site, site

__all__ = ["database", "provided_site", "server_url", "site"]
