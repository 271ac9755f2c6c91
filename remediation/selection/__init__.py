"""Reads the failing rows, and groups them into requests. May import the room `provider`."""
