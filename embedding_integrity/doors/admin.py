"""The door of the admin endpoint: `embedding-integrity admin`. Holds no logic.

Hands the endpoint what `reports` has.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from checks.door import DoorParser, environment_here, reports_of, settings_of
from checks.errors import IntegrityError, MissingExtraError
from checks.examination.first_look import read_place
from checks.exit_status import ExitStatus
from checks.redaction import for_terminal
from checks.tracebacks import bare
from remediation.admin.health import healthy
from remediation.admin.secret import AdminSecret

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

PORT = 8765


@bare
def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal, or with --health or --ready ask the service that runs here.

    Returns 0, 1 where it is not healthy or its address is taken, 4 where it cannot begin.
    """
    options = parser().parse_args(argv)
    if options.health or options.ready:
        fine, words = healthy(
            options.host, options.port, "/healthz" if options.health else "/readyz"
        )
        print(words, file=sys.stdout if fine else sys.stderr)
        return 0 if fine else 1
    try:
        return _serve(options)
    except IntegrityError as error:
        print(for_terminal(str(error)), file=sys.stderr)
        return ExitStatus.USAGE_ERROR


def parser() -> DoorParser:
    """The command's options."""
    found = DoorParser(
        "admin", "Serve the admin endpoint; its secret is in ADMIN_SECRET, or else AUTH_SECRET."
    )
    found.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1; 0.0.0.0 and :: do")
    found.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}; 0: any free one")
    found.add_config()
    found.add_report_dir("incident reports")
    found.add_argument(
        "--wait",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="how long a request waits for its run before it is answered with 202 (default: 2)",
    )
    asking = found.add_mutually_exclusive_group()
    asking.add_argument(
        "--health",
        action="store_true",
        help="ask the running service whether it is alive, and exit",
    )
    asking.add_argument(
        "--ready", action="store_true", help="ask it whether it can reach its database, and exit"
    )
    return found


def _serve(options: argparse.Namespace) -> int:
    environment = environment_here()
    secret = AdminSecret.from_environment(environment)
    settings = settings_of(options, environment)
    read_place(settings, environment)
    try:
        from remediation.admin.application import Admin
        from remediation.admin.server import Server, listen, names_of
    except ImportError as error:
        raise MissingExtraError("admin", error.name) from None
    from checks.expectations import engine
    from remediation.admin.readiness import ReadinessProbe
    from remediation.admin.runs import Runs
    from reports.unattended import write_incident

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("remediation").setLevel(logging.INFO)
    engine.load()
    runs = Runs(
        environment=environment,
        report_directory=reports_of(options, environment),
        write_incident=write_incident,
    )
    admin = Admin(
        settings=settings,
        secret=secret,
        runs=runs,
        readiness=ReadinessProbe(settings=settings, environment=environment),
        wait_seconds=options.wait,
    )
    server = Server(admin.application(), runs)
    try:
        listener = listen(options.host, options.port)
    except OSError as error:
        print(
            f"cannot listen at {options.host} port {options.port}: {error.strerror}",
            file=sys.stderr,
        )
        return 1
    with listener:
        print(f"listening at {names_of([listener])}", flush=True)
        server.run(sockets=[listener])
    if not server.ended:
        # Threads that wait on what does not answer would keep the process.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(ExitStatus.INTERRUPTED)
    return 0
