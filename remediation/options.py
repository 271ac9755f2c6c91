"""Declares the options of a repair, refuses wrong combinations, and applies the rest.

Opens and runs nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest

from checks.plugin import active, environment_of
from checks.settings import environment

if TYPE_CHECKING:
    from pathlib import Path

    from _pytest.terminal import TerminalReporter

    from checks.settings.integrity_toml import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Override:
    """An option that overrides a setting, and has that setting's bounds."""

    option: str
    metavar: str
    help: str
    section: Literal["provider", "repair"]
    key: str

    def parse(self, text: str) -> Any:
        """The value that a person wrote; argparse shows the message of what this raises."""
        from checks.settings.integrity_toml import parse_override

        try:
            return parse_override(self.section, self.key, text)
        except ValueError as fault:
            raise argparse.ArgumentTypeError(str(fault)) from None


OVERRIDES = (
    Override(
        option="--batch-size",
        metavar="N",
        help="texts per request, at most",
        section="provider",
        key="batch_size",
    ),
    Override(
        option="--max-rows",
        metavar="N",
        help="rows to repair, at most",
        section="repair",
        key="max_rows",
    ),
    Override(
        option="--max-cost",
        metavar="DOLLARS",
        help="what the provider may cost, at most",
        section="repair",
        key="max_cost",
    ),
    Override(
        option="--concurrency",
        metavar="N",
        help="requests in flight, at most",
        section="provider",
        key="concurrency",
    ),
)


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
        help="with --remediate: send rows again that an earlier run was refused, or wrote in vain",
    )
    group.addoption(
        "--distributed",
        action="store_true",
        help="with --remediate: have workers (embedding-integrity worker) do the work",
    )
    for override in OVERRIDES:
        group.addoption(
            override.option, type=override.parse, metavar=override.metavar, help=override.help
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


def pytest_configure(config: pytest.Config) -> None:
    """Refuse options that contradict each other; exits with 4."""
    remediate = config.getoption("--remediate")
    if config.getoption("--dry-run") and not remediate and not config.getoption("--rollback"):
        raise pytest.UsageError(
            "--dry-run needs --remediate or --rollback: it shows what they would do (a plain run"
            " never repairs)"
        )
    if config.getoption("--sample") and (remediate or config.getoption("--rollback")):
        raise pytest.UsageError(
            "--sample is refused with --remediate and --rollback: a sample proves of no other row"
            " that it is whole; leave it out"
        )
    if config.getoption("--since") and config.getoption("--rollback"):
        raise pytest.UsageError(
            "--since is refused with --rollback: what a rollback puts back is older, and would not"
            " be looked at; leave it out"
        )
    if config.getoption("--distributed") and not remediate:
        raise pytest.UsageError("--distributed needs --remediate: it says who does that work")
    if not remediate:
        return
    if config.option.maxfail:
        raise pytest.UsageError(
            "-x and --maxfail are refused with --remediate: the repair needs every check's outcome"
        )
    require_whole_run(config, "--remediate", what="repair")


def require_whole_run(config: pytest.Config, option: str, *, what: str) -> None:
    """Refuse an option where no check would run or nothing could be shown; exits with 4."""
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
    return environment.report_directory(
        config.getoption("--report-dir"), environment_of(config), config.invocation_params.dir
    )


def overridden(config: pytest.Config, settings: Settings) -> Settings:
    """The settings with what the command line overrides."""
    from checks.settings import integrity_toml

    for override in OVERRIDES:
        if (value := config.getoption(override.option)) is not None:
            settings = integrity_toml.overridden(settings, override.section, override.key, value)
    return settings


def reporter_of(config: pytest.Config) -> TerminalReporter:
    """The terminal's reporter. Raises pytest's usage error: no repair runs without one."""
    reporter: TerminalReporter | None = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        raise pytest.UsageError("--remediate needs pytest's terminal reporter")
    return reporter
