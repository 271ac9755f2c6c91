"""Reads integrity.toml and the environment into frozen values. May import no other room of ours."""
