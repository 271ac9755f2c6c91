"""The door of the workers: `python -m remediation.distributed`. Holds no logic."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from checks.database.connection import reason_of
from checks.errors import IntegrityError
from checks.examination.first_look import read_place
from checks.exit_status import ExitStatus
from checks.redaction import for_terminal
from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.settings.environment import read_environment
from checks.settings.integrity_toml import load_settings
from remediation.distributed.schema import (
    SCHEMA,
    install,
    require_extra,
    require_installed,
    uninstall,
)
from remediation.run.preflight import write_place

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Work until a signal, or install or remove what workers share.

    Returns 0, 4 where it cannot begin, or 10 where the database cannot be reached.
    """
    options = parser().parse_args(argv)
    try:
        return _run(options)
    except IntegrityError as error:
        print(for_terminal(str(error)), file=sys.stderr)
        return ExitStatus.USAGE_ERROR
    except psycopg.Error as error:
        print(for_terminal(f"the database refused: {reason_of(error)}"), file=sys.stderr)
        return ExitStatus.NOTHING_EXAMINED


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    found = argparse.ArgumentParser(
        prog="python -m remediation.distributed",
        description="Take the jobs of `pytest --remediate --distributed`, until a signal.",
    )
    found.add_argument(
        "--config",
        metavar="PATH",
        help="the settings file (default: integrity.toml, or INTEGRITY_CONFIG)",
    )
    found.add_argument(
        "--report-dir",
        metavar="DIR",
        help="where journals go that are left over (default: incidents, or INTEGRITY_REPORT_DIR)",
    )
    doing = found.add_mutually_exclusive_group()
    doing.add_argument(
        "--install", action="store_true", help=f"create the schema {SCHEMA}, and exit"
    )
    doing.add_argument(
        "--uninstall", action="store_true", help="remove it with all that is in it, and exit"
    )
    return found


def _run(options: argparse.Namespace) -> int:
    environment = read_environment((Path.cwd(),))
    settings = load_settings(
        Path(options.config or environment.get("INTEGRITY_CONFIG") or "integrity.toml"),
        row_checks=ROW_CHECK_NAMES,
    )
    place = write_place(settings, environment, read_place(settings, environment))
    reports = Path(options.report_dir or environment.get("INTEGRITY_REPORT_DIR", "incidents"))
    require_extra()
    from checks.database.connection import connect
    from remediation.distributed.part_repair import PartRepairs
    from remediation.distributed.shipped_journal import collect_left
    from remediation.distributed.worker import run_worker

    if options.install:
        print(f"schema {SCHEMA}: {'created' if install(place) else 'was there already'}")
        return 0
    if options.uninstall:
        for run_id in collect_left(place, reports):
            print(f"what run {run_id} replaced is in {reports / run_id}")
        print(f"schema {SCHEMA}: {'removed' if uninstall(place) else 'was not there'}")
        return 0
    with connect(place) as connection:
        require_installed(connection)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("remediation").setLevel(logging.INFO)
    run_worker(PartRepairs(settings=settings, environment=environment, started_from=Path.cwd()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
