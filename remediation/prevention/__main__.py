"""Runs the command: `embedding-integrity prevent`."""

import sys

from remediation.prevention.command import main

if __name__ == "__main__":
    sys.exit(main())
