"""Looks whether the database and its extension can be reached; says nothing else of them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg

from checks.database.connection import connect, read_only
from checks.database.connection_url import parse_url
from checks.errors import IntegrityError
from checks.examination.first_look import read_place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checks.database.connection import ConnectionTarget
    from checks.settings.integrity_toml import Settings

KEPT_SECONDS = 2.0
"""So long an answer holds: a flood of questions makes no flood of connections."""
CONNECT_SECONDS = 3
STATEMENT_TIMEOUT = timedelta(seconds=2)
EXTENSION = "SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'vector')"


@dataclass(frozen=True, kw_only=True, slots=True)
class Readiness:
    """What can be reached."""

    database: bool
    extension: bool

    @property
    def ready(self) -> bool:
        return self.database and self.extension

    def answer(self) -> dict[str, object]:
        """In words that name no place."""
        return {
            "ready": self.ready,
            "database": "reachable" if self.database else "not reachable",
            "extension": "installed" if self.extension else "not found",
        }


@dataclass(kw_only=True)
class ReadinessProbe:
    """Looks at where the checks read and a repair writes, once for all who ask at a time."""

    settings: Settings
    environment: Mapping[str, str] = field(repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _kept: tuple[float, Readiness] | None = None

    def look(self) -> Readiness:
        """Blocks for seconds at most where the database does not answer; safe across threads."""
        with self._lock:
            if self._kept is not None and self._kept[0] > time.monotonic():
                return self._kept[1]
            found = self._look()
            self._kept = (time.monotonic() + KEPT_SECONDS, found)
            return found

    def _look(self) -> Readiness:
        try:
            return Readiness(
                database=True, extension=all(_has_extension(place) for place in self._places())
            )
        except (IntegrityError, psycopg.Error):
            return Readiness(database=False, extension=False)

    def _places(self) -> list[ConnectionTarget]:
        places = [read_place(self.settings, self.environment)]
        variable = self.settings.database.write_url_env
        if url := self.environment.get(variable):
            places.append(parse_url(url, variable=variable))
        return places


def _has_extension(place: ConnectionTarget) -> bool:
    with (
        connect(place, timeout_seconds=CONNECT_SECONDS) as connection,
        read_only(connection, place, statement_timeout=STATEMENT_TIMEOUT),
    ):
        row = connection.execute(EXTENSION).fetchone()
    return row is not None and bool(row[0])
