"""What [tables.checks] may not say of a check, as it would have no effect; reads no file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from checks.settings.faults import shown
from checks.settings.values import entries, value_of

if TYPE_CHECKING:
    from checks.settings.values import Conflict

WITHOUT_SHARE = ("tenants", "index")
"""The checks of a whole table; `schema` takes no settings at all."""


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
