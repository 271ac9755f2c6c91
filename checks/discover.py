"""Prints a commented integrity.toml for the database of DATABASE_URL.

Thin: `checks.discovery` decides what is found and guessed. Reads only. The door with its options is
`remediation.discover`, as one of them asks a provider.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from checks.database.connection_url import parse_url
from checks.discovery.survey import survey
from checks.door import environment_here
from checks.errors import ConnectionUrlError, IntegrityError, SettingsError
from checks.exit_status import ExitStatus
from checks.redaction import for_terminal, redactor
from checks.settings.environment import EnvironmentFileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from checks.database.connection import ConnectionTarget
    from checks.discovery.survey import Survey

VARIABLE = "DATABASE_URL"


def discover(
    look_closer: Callable[[Survey, ConnectionTarget], None] | None = None,
    *,
    model: str | None = None,
    fallback_env: str | None = None,
) -> int:
    """Print the file; `look_closer` may change what it says before. Returns the exit status."""
    try:
        place = parse_url(_url(), variable=VARIABLE)
        found = replace(survey(place), given_model=model, fallback_env=fallback_env)
        if look_closer is not None:
            look_closer(found, place)
    except SettingsError as error:
        return _failed("\n".join(error.errors), ExitStatus.USAGE_ERROR)
    except (ConnectionUrlError, EnvironmentFileError) as error:
        return _failed(error, ExitStatus.USAGE_ERROR)
    except IntegrityError as error:
        return _failed(error, ExitStatus.NOTHING_EXAMINED)
    if place.note is not None:
        print(for_terminal(place.note), file=sys.stderr)
    # The file is UTF-8 whatever the terminal's language is.
    sys.stdout.buffer.write(redactor.clean(found.text).encode())
    sys.stdout.buffer.flush()
    return ExitStatus.HOLDS


def _url() -> str:
    """The URL from the environment, else from `.env` here or in the checkout, as in a run."""
    url = environment_here().get(VARIABLE)
    if not url:
        raise ConnectionUrlError(
            f"the environment variable {VARIABLE} is not set; expected the URL of the database to"
            f" look at: {VARIABLE}=postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        )
    return url


def _failed(error: Exception | str, status: ExitStatus) -> int:
    print(for_terminal(str(error)), file=sys.stderr)
    return status


if __name__ == "__main__":
    # The same door by the name of either module.
    sys.exit(import_module("remediation.discover").main())
