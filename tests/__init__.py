"""The project's own tests: real PostgreSQL, real HTTP on loopback."""
