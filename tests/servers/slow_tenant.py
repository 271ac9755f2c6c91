"""An endpoint that is slow for one tenant, until all others are repaired."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from tests.builders.tables import rows as rows_of
from tests.drivers.repairs import TABLE, key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.servers.provider_server import ReceivedRequest, Reply

ACME = key_of("acme")
PATIENCE = 60.0
"""Seconds after which the test gives up on the others."""


class Slow:
    """acme's endpoint: answers `prompt` requests at once, and then none before the others' rows
    are whole.
    """

    def __init__(self, url: str, *, prompt: int = 0, tables: Sequence[str] = (TABLE,)) -> None:
        self.url = url
        self.tables = tables
        self.prompt = prompt
        self.released = threading.Event()
        self.others_were_whole = False

    def rule(self, request: ReceivedRequest) -> Reply | None:
        if request.key == ACME:
            self.prompt -= 1
            if self.prompt < 0:
                self.released.wait(PATIENCE)
        return None

    def watch(self, stop: threading.Event) -> None:
        missing = " UNION ALL ".join(
            f"SELECT FROM {table} WHERE embedding IS NULL AND tenant <> 'acme'"
            for table in self.tables
        )
        end = time.monotonic() + PATIENCE / 2
        while time.monotonic() < end and not stop.wait(0.1):
            if rows_of(self.url, f"SELECT count(*) FROM ({missing}) AS m") == [(0,)]:
                self.others_were_whole = True
                break
        self.released.set()
