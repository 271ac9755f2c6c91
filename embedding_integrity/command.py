"""The command `embedding-integrity`: runs the checks, or one of its other doors. Holds no logic."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from embedding_integrity.beside import USAGE_ERROR, DeclaredOptions
from embedding_integrity.run import NAME, find_packages_first, of_the_checks, plugin_names, run


@dataclass(frozen=True, slots=True)
class Door:
    """A module whose `main(arguments)` returns an exit status, and a line about it."""

    module: str
    about: str
    extra: str | None = None
    """The extra of the installation that has what the module imports, where it needs one."""


DOORS = {
    "discover": Door(
        "remediation.discover", "print an integrity.toml for the database of DATABASE_URL"
    ),
    "demo": Door("demo.__main__", "an incident of 382 rows: found, repaired, verified", "demo"),
    "prevent": Door(
        "embedding_integrity.doors.prevent", "print a migration after which a gap is seen at once"
    ),
    "admin": Door(
        "embedding_integrity.doors.admin", "serve the repair over HTTP, behind a secret", "admin"
    ),
    "worker": Door(
        "embedding_integrity.doors.worker",
        "repair parts of what other machines selected, or by itself again and again",
        "distributed",
    ),
    "where": Door("embedding_integrity.doors.where", "print the folder of the checks"),
}

PAGE = """\
usage: {name} [pytest's options and ours]
       {name} DOOR [its options]

Checks the embeddings of the database that integrity.toml describes, and repairs them. Run it from
the folder of that file; URLs and keys come from the environment or from a file .env there.

  {name}                              all checks
  {name} --remediate --dry-run        what a repair would do, and what it would cost
  {name} --remediate                  repair, and check again

doors:
{doors}

options, beside all of pytest's own (pytest --help) but -n:
{options}

exit status, the first that applies:
{statuses}

Beside other tests: pytest tests "$({name} where)"
"""


def main(arguments: list[str] | None = None) -> int:
    """Run what the first word says, the checks where it is an option; returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    first = words[0] if words else ""
    find_packages_first()
    if first in DOORS:
        return _open(DOORS[first], words[1:])
    if "--help" in words or "-h" in words:
        print(_page(), end="")
        return 0
    if words == ["--version"]:
        print(f"{NAME} {_version(NAME)}, pytest {_version('pytest')}")
        return 0
    if first and not first.startswith("-") and not of_the_checks(first):
        doors = ", ".join(DOORS)
        print(
            f"{NAME}: expected an option or one of {doors}, found {first!r};"
            f" `{NAME} --help` shows what there is",
            file=sys.stderr,
        )
        return USAGE_ERROR
    return run(words)


def _open(door: Door, arguments: list[str]) -> int:
    try:
        module = import_module(door.module)
    except ModuleNotFoundError as error:
        if door.extra is None:
            raise
        missing = import_module("checks.errors").MissingExtraError(door.extra, error.name)
        print(f"{NAME}: {missing}", file=sys.stderr)
        return USAGE_ERROR
    status: int = module.main(arguments)
    return int(status)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(not installed)"


def _page() -> str:
    statuses = import_module("checks.exit_status").ExitStatus
    options = [
        (f"{name}={attributes['metavar']}" if "metavar" in attributes else name, attributes["help"])
        for name, attributes in DeclaredOptions(plugin_names()).options
    ]
    return PAGE.format(
        name=NAME,
        doors=_table([(name, door.about) for name, door in DOORS.items()]),
        options=_table(options),
        statuses=_table([(str(int(status)), status.meaning) for status in statuses.in_order()]),
    )


def _table(lines: list[tuple[str, str]]) -> str:
    width = max(len(first) for first, _ in lines)
    return "\n".join(f"  {first:<{width}}  {second}" for first, second in lines)
