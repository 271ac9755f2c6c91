"""What the doors of the command have in common: how wrong usage ends, and where they find things.

A run of pytest finds the same files by the same rules.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from checks.exit_status import ExitStatus
from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.settings.environment import read_environment, report_directory, settings_file
from checks.settings.integrity_toml import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checks.settings.environment import Environment
    from checks.settings.integrity_toml import Settings

CHECKOUT = Path(__file__).resolve().parents[1]


class DoorParser(argparse.ArgumentParser):
    """The options of a door. Wrong usage ends with 4: argparse's own 2 means an interrupted run."""

    def __init__(self, door: str, description: str) -> None:
        super().__init__(prog=f"embedding-integrity {door}", description=description)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong below the usage, and exit."""
        self.exit(ExitStatus.USAGE_ERROR, f"{self.format_usage()}{self.prog}: {message}\n")

    def add_config(self) -> None:
        """Declare `--config`."""
        self.add_argument(
            "--config",
            metavar="PATH",
            help="the settings file (default: integrity.toml, or INTEGRITY_CONFIG)",
        )

    def add_report_dir(self, what: str) -> None:
        """Declare `--report-dir`; `what` goes there."""
        self.add_argument(
            "--report-dir",
            metavar="DIR",
            help=f"where {what} go (default: incidents, or INTEGRITY_REPORT_DIR)",
        )


def environment_here() -> Environment:
    """The environment, over `.env` of this folder, else of the checkout."""
    return read_environment((Path.cwd(), CHECKOUT))


def settings_of(options: argparse.Namespace, environment: Mapping[str, str]) -> Settings:
    """What `--config` names, or what is found without it. Raises SettingsError."""
    path = settings_file(options.config, environment, (Path.cwd(), CHECKOUT))
    return load_settings(path, row_checks=ROW_CHECK_NAMES)


def reports_of(options: argparse.Namespace, environment: Mapping[str, str]) -> Path:
    """The folder that `--report-dir` names, or the one without it."""
    return report_directory(options.report_dir, environment, Path.cwd())
