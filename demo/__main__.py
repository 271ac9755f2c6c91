"""Runs the demo from start to end: `python -m demo [pytest's arguments]`.

Says what the exit status means, and succeeds when it is the one expected of the arguments.
"""

from __future__ import annotations

import sys

from checks.door import DoorParser
from checks.exit_status import ExitStatus
from embedding_integrity.run import run


def main(arguments: list[str]) -> int:
    """Run the checks with `--demo --remediate` and the arguments; 0 if it ended as it should."""
    if "--help" in arguments or "-h" in arguments:
        _parser().parse_args(["--help"])
    expected = 1 if "--dry-run" in arguments else 0
    status = run(["--demo", "--remediate", *arguments])
    print(f"pytest's exit status: {status} ({ExitStatus(status).meaning})", flush=True)
    if status == expected:
        return 0
    print(
        f"expected {expected} ({ExitStatus(expected).meaning}); see the output above",
        file=sys.stderr,
    )
    return 1


def _parser() -> DoorParser:
    """Shows what there is; the arguments are for pytest to read."""
    parser = DoorParser(
        "demo",
        "An incident of 382 rows, found, repaired, verified and reported: in an embedded"
        " PostgreSQL, with an offline provider. The options of embedding-integrity work too."
        " Exits with 0 if all went as it should.",
    )
    parser.add_argument("--dry-run", action="store_true", help="the plan alone: no row is written")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
