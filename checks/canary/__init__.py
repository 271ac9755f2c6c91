"""Samples rows for the checks that ask the provider or the index.

May import `examination` and the rooms below it.
"""
