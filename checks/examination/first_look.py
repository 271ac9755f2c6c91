"""Looks at what a run is asked to look at, where the environment says that it is.

Knows no pytest: a door without it begins here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checks.database.connection_url import parse_url
from checks.errors import ConnectionUrlError
from checks.examination.examination import examine
from checks.examination.run_context import RunContext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checks.database.connection import ConnectionTarget
    from checks.examination.selection import Selection
    from checks.settings.integrity_toml import Settings


def first_look(
    settings: Settings,
    environment: Mapping[str, str],
    selection: Selection,
    *,
    place: ConnectionTarget | None = None,
) -> RunContext:
    """What a run knows once it has examined everything that is selected.

    `place` None: where the environment says. Raises `ConnectionUrlError` and what `examine` raises.
    """
    place = place or read_place(settings, environment)
    examination = examine(place, settings, selection)
    return RunContext(
        settings=settings,
        environment=environment,
        place=place,
        selection=selection,
        before=examination,
        examination=examination,
    )


def read_place(settings: Settings, environment: Mapping[str, str]) -> ConnectionTarget:
    """Where the checks read. Raises `ConnectionUrlError` where no URL is set, or a wrong one."""
    variable = settings.database.url_env
    url = environment.get(variable)
    if not url:
        raise ConnectionUrlError(
            f"the environment variable {variable} is not set; expected the URL of the database to"
            " check, in the environment or in a file .env:"
            f" {variable}=postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        )
    return parse_url(url, variable=variable)
