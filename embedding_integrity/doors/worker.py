"""The door of the workers: `embedding-integrity worker`. Holds no logic."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from checks.database.connection import reason_of
from checks.door import DoorParser, environment_here, reports_of, settings_of
from checks.errors import IntegrityError
from checks.examination.first_look import read_place
from checks.exit_status import ExitStatus
from checks.redaction import for_terminal
from checks.tracebacks import bare
from remediation.distributed.shared.schema import (
    SCHEMA,
    install,
    own_session,
    require_extra,
    require_installed,
    uninstall,
)
from remediation.run.preflight import write_place

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta


@bare
def main(argv: Sequence[str] | None = None) -> int:
    """Work until a signal, or install or remove what workers share.

    Returns 0, 4 where it cannot begin, or 10 where the database cannot be reached.
    """
    known = parser()
    options = known.parse_args(argv)
    if (options.sweep is None) != (options.max_cost_per_day is None):
        known.error("--sweep and --max-cost-per-day go together: a sweep spends without a person")
    try:
        return _run(options)
    except IntegrityError as error:
        print(for_terminal(str(error)), file=sys.stderr)
        return ExitStatus.USAGE_ERROR
    except psycopg.Error as error:
        print(for_terminal(f"the database refused: {reason_of(error)}"), file=sys.stderr)
        return ExitStatus.NOTHING_EXAMINED


def parser() -> DoorParser:
    """The command's options."""
    found = DoorParser(
        "worker", "Take the jobs of `pytest --remediate --distributed`, until a signal."
    )
    found.add_config()
    found.add_report_dir("the reports of sweeps, and journals that are left over,")
    found.add_argument(
        "--sweep",
        type=_every,
        metavar="DURATION",
        help="also repair what fails anew, so often: '5 minutes'; needs --max-cost-per-day",
    )
    found.add_argument(
        "--max-cost-per-day",
        type=float,
        metavar="DOLLARS",
        help="what all sweeps that begin on one day (UTC) may cost, at most",
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
    environment = environment_here()
    settings = settings_of(options, environment)
    place = write_place(settings, environment, read_place(settings, environment))
    reports = reports_of(options, environment)
    require_extra()
    from checks.database.connection import connect
    from remediation.distributed.part_repair import PartRepairs
    from remediation.distributed.shared.journal import collect_left
    from remediation.distributed.shared.queue import require_session
    from remediation.distributed.worker import run_worker

    if options.install:
        print(f"schema {SCHEMA}: {'created' if install(place) else 'was there already'}")
        return 0
    if options.uninstall:
        for run_id in collect_left(place, reports):
            print(f"what run {run_id} replaced is in {reports / run_id}")
        print(f"schema {SCHEMA}: {'removed' if uninstall(place) else 'was not there'}")
        return 0
    require_session(place)
    with connect(own_session(place)) as connection:
        require_installed(connection)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("remediation").setLevel(logging.INFO)
    repairs = PartRepairs(settings=settings, environment=environment, started_from=Path.cwd())
    sweeps = None
    if options.sweep is not None:
        from checks.expectations import engine
        from remediation.distributed.sweeps import Sweeps
        from reports.unattended import write_incident

        engine.load()
        sweeps = Sweeps(
            settings=settings,
            environment=environment,
            place=place,
            every=options.sweep,
            max_cost_per_day=options.max_cost_per_day,
            report_directory=reports,
            started_from=Path.cwd(),
            write_incident=write_incident,
        )
    run_worker(repairs, sweeps)
    return 0


def _every(text: str) -> timedelta:
    """How often to sweep; argparse shows the message of what this raises."""
    from checks.settings.values import parse_duration
    from remediation.distributed.schedule import cron_of

    try:
        every = parse_duration(text)
        cron_of(every)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(str(fault)) from None
    return every
