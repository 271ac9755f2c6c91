"""Runs the demo from start to end: `python -m demo [pytest's arguments]`.

Says what pytest's exit status means, and succeeds when it is the one expected of the arguments.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from checks.exit_status import ExitStatus

if TYPE_CHECKING:
    from types import FrameType

REPOSITORY = Path(__file__).parents[1]


def main(arguments: list[str]) -> int:
    """Run `pytest --demo --remediate` with the arguments; 0 if it ended as it should, else 1."""
    expected = 1 if "--dry-run" in arguments else 0
    command = [sys.executable, "-m", "pytest", "--demo", "--remediate", *arguments]
    with subprocess.Popen(command, cwd=REPOSITORY) as process:  # noqa: S603 - the user's own words

        def pass_on(number: int, _frame: FrameType | None) -> None:
            process.send_signal(number)

        # Ctrl-C reaches pytest by itself, and pytest is what has to clean up.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, pass_on)
        status = process.wait()
    meaning = "ended by a signal" if status < 0 else ExitStatus(status).meaning
    print(f"pytest's exit status: {status} ({meaning})", flush=True)
    if status == expected:
        return 0
    print(
        f"expected {expected} ({ExitStatus(expected).meaning}); see the output above",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
