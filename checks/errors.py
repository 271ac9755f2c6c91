"""Defines the errors of the checks. Imports nothing, so that every module may use it."""

from __future__ import annotations


class IntegrityError(Exception):
    """Base of this project's errors; the message is meant for a person and holds no secret."""


class SettingsError(IntegrityError):
    """The settings file is missing or wrong; `errors` holds every fault with table and key."""

    def __init__(self, errors: tuple[str, ...]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


class CannotExamineError(IntegrityError):
    """Nothing could be examined: no connection, no database, or no right to look."""


class ConnectionUrlError(IntegrityError):
    """A connection URL is absent or malformed; the message never shows it."""


class MissingExtraError(IntegrityError):
    """What an extra of the installation brings is not there; the message says how to get it."""

    def __init__(self, extra: str, missing: str | None) -> None:
        super().__init__(
            f"expected the packages of the extra `{extra}`, {missing} was not found; run"
            f" `pip install 'embedding-integrity[{extra}]'` in the environment of the command, or"
            f" have pipx or uv install the wheel again with [{extra}] behind its name"
        )
