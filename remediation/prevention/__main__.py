"""Runs the command: `python -m remediation.prevention`."""

import sys

from remediation.prevention.command import main

if __name__ == "__main__":
    sys.exit(main())
