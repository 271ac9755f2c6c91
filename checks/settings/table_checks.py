"""Defines what the settings say of a table's checks, and refuses what would have no effect.

Reads no file. Whoever loads the settings says which row checks are built in.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal

from pydantic import field_validator

from checks.settings.check_names import CANARIES
from checks.settings.faults import shown, suggestion
from checks.settings.values import (
    Conflict,
    Count,
    Day,
    Flag,
    Section,
    Share,
    SqlExpression,
    Text,
    entries,
    value_of,
)

Severity = Literal["error", "warning"]
Remedy = Literal["report", "re-embed"]

WITHOUT_SHARE = ("tenants", "index")
"""The checks of a whole table; `schema` takes no settings at all."""


class Accepted(Section):
    """Findings someone has agreed to live with, up to a number of rows and a day."""

    tenant: str | None = None
    """None: the segment without a tenant."""
    rows: Count
    until: Day
    reason: Text


class CheckSettings(Section):
    """What a check tolerates and how much its findings weigh."""

    min: Share | None = None
    """The least share of passing rows, exactly as written in the file; None: all of them."""
    severity: Severity = "error"
    enabled: Flag = True
    accept: tuple[Accepted, ...] = ()
    alike: Count | None = None
    """Of `uniqueness`: letters and digits after which texts that begin alike count as the same."""


class CustomCheck(Section):
    """A user's own row check: one line of SQL that is true of a failing row."""

    name: str
    failing_when: SqlExpression
    remedy: Remedy = "report"
    severity: Severity = "error"
    min: Share | None = None
    enabled: Flag = True

    @field_validator("name")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError(
                f"expected small letters, digits and _, a letter first, found {shown(name)}"
            )
        return name


def names_in_conflict(tables: Sequence[object], row_checks: Collection[str]) -> Iterator[Conflict]:
    """Settings of checks that nobody knows, and a user's own checks called like a built-in one.

    `tables` are the [[tables]] entries as TOML reads them, `row_checks` the built-in row checks.
    """
    built_in = ("schema", "tenants", *row_checks, "index", *CANARIES)
    for position, table in enumerate(tables):
        own = [value_of(custom, "name") for custom in entries(value_of(table, "custom"))]
        for place, name in enumerate(own):
            if name in built_in:
                yield (
                    ("tables", position, "custom", place, "name"),
                    f"{shown(name)} is a built-in check; give your own another name",
                )
        known = list(dict.fromkeys([*built_in, *(name for name in own if isinstance(name, str))]))
        stated = value_of(table, "checks")
        for name in stated if isinstance(stated, Mapping) else ():
            if name not in known:
                near = suggestion(str(name), known)
                yield (
                    ("tables", position, "checks", name),
                    f"unknown check; {near or 'known: ' + ', '.join(known)}",
                )


def without_effect(checks: Mapping[str, object]) -> Iterator[Conflict]:
    """Settings of checks that would be accepted and then ignored."""
    for name, stated in checks.items():
        if name == "schema":
            for key in _stated_keys(stated):
                yield (
                    ("checks", name, key),
                    "schema always runs, as an error: where it fails, no other check means"
                    " anything; remove this setting",
                )
            continue
        if name in WITHOUT_SHARE and value_of(stated, "min") is not None:
            yield (
                ("checks", name, "min"),
                f"{name} is about the table as a whole, of which no share can hold; remove it",
            )
        if name != "uniqueness" and value_of(stated, "alike") is not None:
            yield (
                ("checks", name, "alike"),
                f"says how many characters tell texts apart, which {name} does not ask; remove it",
            )
        yield from _acceptances_without_effect(name, stated)


def _acceptances_without_effect(name: str, stated: object) -> Iterator[Conflict]:
    accepted = entries(value_of(stated, "accept"))
    if accepted and value_of(stated, "enabled") is False:
        yield (
            ("checks", name, "accept"),
            f"{name} is switched off, so nothing of it can be accepted; remove one of the two",
        )
    tenants = [value_of(entry, "tenant") for entry in accepted]
    for position, tenant in enumerate(tenants):
        if name == "index" and tenant is not None:
            yield (
                ("checks", name, "accept", position, "tenant"),
                "index is about the table as a whole; leave the tenant out",
            )
        elif (tenant is None or isinstance(tenant, str)) and tenant in tenants[:position]:
            whose = "no tenant" if tenant is None else f"tenant {shown(tenant)}"
            yield (
                ("checks", name, "accept", position),
                f"expected one entry for {whose}, found a second; keep one of the two",
            )


def _stated_keys(stated: object) -> Iterator[str]:
    """The keys someone wrote, of a section that is validated already or not yet."""
    if isinstance(stated, Mapping):
        yield from map(str, stated)
    else:
        yield from getattr(stated, "model_fields_set", ())
