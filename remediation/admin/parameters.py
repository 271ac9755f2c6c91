"""Reads the query of a repair's request; every fault names its parameter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from checks.examination.selection import Selection
from checks.redaction import redactor
from checks.settings.integrity_toml import overridden, parse_override

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.settings.integrity_toml import Settings
    from checks.settings.names import TableName

OVERRIDES: dict[str, tuple[Literal["provider", "repair"], str]] = {
    "batchSize": ("provider", "batch_size"),
    "maxRows": ("repair", "max_rows"),
    "maxCost": ("repair", "max_cost"),
}
"""Parameters that stand in the place of a setting, and have its bounds."""
REPEATABLE = ("tenantId", "table")
KNOWN = ("dryRun", *OVERRIDES, *REPEATABLE)
MOST_NAMES = 100
LONGEST_NAME = 1000


class WrongParametersError(Exception):
    """The query cannot be meant; `faults` says why, by parameter."""

    def __init__(self, faults: dict[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {words}" for name, words in faults.items()))
        self.faults = faults


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairRequest:
    """What a caller asked for. `given` repeats the query, for the record."""

    dry_run: bool
    settings: Settings
    selection: Selection
    given: dict[str, Any]


def read_query(items: Sequence[tuple[str, str]], settings: Settings) -> RepairRequest:
    """The request in a query. Raises `WrongParametersError` with every fault at once."""
    faults: dict[str, str] = {}
    values: dict[str, list[str]] = {}
    for name, value in items:
        values.setdefault(name, []).append(value)
    for name, given in values.items():
        if name not in KNOWN:
            faults[redactor.clean(name)] = f"unknown; expected one of {', '.join(KNOWN)}"
        elif name not in REPEATABLE and len(given) > 1:
            faults[name] = f"expected once, found {len(given)} times"
        elif len(given) > MOST_NAMES:
            faults[name] = f"expected at most {MOST_NAMES}, found {len(given)}"
        elif any("\0" in value or len(value) > LONGEST_NAME for value in given):
            faults[name] = f"expected at most {LONGEST_NAME} characters, none of them NUL"
    parsed: dict[str, Any] = {
        name: given if name in REPEATABLE else given[0]
        for name, given in values.items()
        if name in KNOWN and name not in faults
    }
    # Safe by default: who leaves it out sees what would be done.
    dry_run = parsed.setdefault("dryRun", "true")
    if dry_run not in ("true", "false"):
        faults["dryRun"] = "expected true or false"
    parsed["dryRun"] = dry_run == "true"
    for name, (section, key) in OVERRIDES.items():
        if name in parsed:
            try:
                parsed[name] = parse_override(section, key, parsed[name])
            except ValueError as fault:
                faults[name] = str(fault)
            else:
                settings = overridden(settings, section, key, parsed[name])
    for table in parsed.get("table", ()):
        if not is_declared(table, settings):
            names = ", ".join(str(entry.name) for entry in settings.tables[:20])
            faults["table"] = redactor.clean(f"{table!r} is not declared; declared are: {names}")
    if faults:
        raise WrongParametersError(faults)
    return RepairRequest(
        dry_run=parsed["dryRun"],
        settings=settings,
        selection=Selection(
            tables=parsed.get("table"), tenants=tuple(parsed.get("tenantId", ())) or None
        ),
        given=parsed,
    )


def is_declared(name: str, settings: Settings) -> bool:
    """Whether a table of this name may be selected, by the settings alone."""
    return any(re.fullmatch(name_pattern(entry.name), name) for entry in settings.tables)


def name_pattern(name: TableName) -> str:
    """A regular expression for the ways to write a declared name: as declared, or without schema.

    In a form that ECMAScript and Python read alike.
    """
    forms = {str(name), name.name, *([f"{name.schema}.{name.name}"] if name.schema else [])}
    return "|".join(
        sorted(
            _escaped(form).replace(r"\*", ".+") if name.is_pattern else _escaped(form)
            for form in forms
        )
    )


def _escaped(text: str) -> str:
    return re.sub(r"([\\^$.|?*+()\[\]{}/])", r"\\\1", text)
