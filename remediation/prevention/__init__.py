"""Prints the migration after which a missing or stale embedding is impossible, or seen at once.

Looks at the catalog and writes nothing to the database; may import nothing of the other rooms.
"""
