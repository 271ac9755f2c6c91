"""Holds the context of a run: what it was asked for, where it looked, and what it saw.

Values only; filled by the plugins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checks.database.connection import ConnectionTarget
    from checks.examination.examination import Examination
    from checks.examination.selection import Selection
    from checks.settings.integrity_toml import Settings


@dataclass(kw_only=True, slots=True)
class RunContext:
    """What the run knows. `before` is what it saw first, `examination` what it saw last."""

    settings: Settings
    environment: Mapping[str, str] = field(repr=False)
    place: ConnectionTarget
    selection: Selection
    before: Examination
    examination: Examination
    provisional: frozenset[str] = frozenset()
    """Tables that will be repaired and measured again: their verdicts are not final yet."""
    measured_through: ConnectionTarget | None = None
    """Where the repaired tables were measured again, to be read from there: a replica may lag."""
