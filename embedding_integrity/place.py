"""Says where pytest's side of the project lies: in the installed copy, or in a checkout."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent

ROOTDIR = _HERE / "rootdir" if (_HERE / "rootdir").is_dir() else _HERE.parent
"""Holds `conftest.py`, pytest's settings and the packages."""
CHECKS = ROOTDIR / "checks"
"""What pytest is asked to collect."""
