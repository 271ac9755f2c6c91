"""pytest's options of a repair: what may be asked for, what is refused, and what they come to.

Opens and runs nothing.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checks.plugin import active, environment_of

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

    from checks.settings.integrity_toml import Settings


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("embedding integrity")
    group.addoption(
        "--remediate",
        action="store_true",
        help="re-embed what fails, check again, and write an incident report",
    )
    group.addoption(
        "--dry-run",
        action="store_true",
        help="with --remediate or --rollback: show the plan, write nothing, call no provider",
    )
    group.addoption(
        "--retry-quarantined",
        action="store_true",
        help="with --remediate: send rows again that the provider refused in an earlier run",
    )
    group.addoption("--batch-size", type=_positive, metavar="N", help="texts per request, at most")
    group.addoption("--max-rows", type=_positive, metavar="N", help="rows to repair, at most")
    group.addoption(
        "--max-cost", type=_amount, metavar="DOLLARS", help="what the provider may cost, at most"
    )
    group.addoption(
        "--concurrency", type=_positive, metavar="N", help="requests in flight, at most"
    )
    group.addoption(
        "--show-texts",
        action="store_true",
        help="show how the texts of rows that were not fixed begin; else no text is shown",
    )
    group.addoption(
        "--report-dir",
        metavar="DIR",
        help="where incident reports go (default: incidents, or INTEGRITY_REPORT_DIR)",
    )


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return int(text)


def _amount(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 <= amount < math.inf:
        raise argparse.ArgumentTypeError(f"expected an amount of dollars from 0, found {text!r}")
    return amount


def pytest_configure(config: pytest.Config) -> None:
    """Refuse combinations that cannot be meant; exits with 4."""
    remediate = config.getoption("--remediate")
    if config.getoption("--dry-run") and not remediate and not config.getoption("--rollback"):
        raise pytest.UsageError(
            "--dry-run needs --remediate or --rollback: it shows what they would do (a plain run"
            " never repairs)"
        )
    if not remediate:
        return
    if config.option.maxfail:
        raise pytest.UsageError(
            "-x and --maxfail are refused with --remediate: the repair needs every check's outcome"
        )
    require_whole_run(config, "--remediate", what="repair")


def require_whole_run(config: pytest.Config, option: str, *, what: str) -> None:
    """Refuse an option where no check would run, or nothing could be shown; exits with 4."""
    if config.option.setupplan or config.option.setuponly:
        raise pytest.UsageError(f"--setup-plan and --setup-only do not run a check, nor a {what}")
    if not config.pluginmanager.has_plugin("terminal"):
        raise pytest.UsageError(
            f"{option} needs pytest's terminal reporter: it shows what the {what} does"
        )
    if not active(config):
        raise pytest.UsageError(f"{option} needs checks/ among the arguments of pytest")


def report_directory(config: pytest.Config) -> Path:
    """Where this run's reports and journal go."""
    named = config.getoption("--report-dir") or environment_of(config).get(
        "INTEGRITY_REPORT_DIR", "incidents"
    )
    return Path(config.invocation_params.dir, named)


def overridden(config: pytest.Config, settings: Settings) -> Settings:
    """The settings with what the command line overrides."""
    return settings.model_copy(
        update={
            section: getattr(settings, section).model_copy(
                update={
                    name: value
                    for name in names
                    if (value := config.getoption(f"--{name.replace('_', '-')}")) is not None
                }
            )
            for section, names in (
                ("provider", ("batch_size", "concurrency")),
                ("repair", ("max_rows", "max_cost")),
            )
        }
    )


def reporter_of(config: pytest.Config) -> TerminalReporter:
    """The terminal's reporter: a repair is refused without it."""
    reporter: TerminalReporter | None = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        raise pytest.UsageError("--remediate needs pytest's terminal reporter")
    return reporter
