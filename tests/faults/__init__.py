"""Faults for whole repairs: a link, a provider, a killer and a racer, and what must hold after."""
