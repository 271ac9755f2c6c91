"""Lists the settings of a run by their names; what may hold a secret is not shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checks.settings.integrity_toml import Settings

HIDDEN = ("keys.sql", "keys.command", "provider.extra_headers", "provider.extra_body")
"""A password may stand in them; whatever is nested in them is hidden too."""
NOT_SHOWN = "set, and not shown"


def declared(settings: Settings) -> dict[str, str]:
    """The sections with their defaults, and of each table what the file says of it."""
    sections = settings.model_dump(exclude={"tables"})
    tables = {
        f"tables[{name}]": table.model_dump(exclude_unset=True)
        for name, table in settings.named_tables
    }
    return dict(_flat({**sections, **tables}))


def _flat(values: Mapping[str, object], within: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{within}{key}"
        if value in (None, (), {}):
            continue
        if name in HIDDEN:
            yield name, NOT_SHOWN
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield name, json.dumps(value, default=_as_in_the_file, ensure_ascii=False)


def _as_in_the_file(value: object) -> str:
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    return str(value)
