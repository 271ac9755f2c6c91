"""Prints the folder of the checks, for a run of pytest beside other tests."""

from __future__ import annotations

from checks.door import DoorParser
from embedding_integrity.place import CHECKS


def main(arguments: list[str]) -> int:
    """Print it on a line of its own."""
    DoorParser(
        "where", 'Print the folder of the checks: pytest tests "$(embedding-integrity where)".'
    ).parse_args(arguments)
    print(CHECKS)
    return 0
