"""One tenant's slow endpoint holds up no other tenant: at the probe, at first, and later."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from remediation.journal.outcomes import Outcome
from tests.provider_server import ProviderServer
from tests.repairs import docs, environment, key_of, meanwhile, repaired, settings
from tests.tables import rows as rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.provider_server import ReceivedRequest, Reply

KEYS = environment("acme", "globex", "initech")
ACME = key_of("acme")
PATIENCE = 60.0
"""Seconds after which the test gives up on the others."""


class Slow:
    """acme's endpoint: answers `prompt` requests at once, and then none before the others' rows
    are whole.
    """

    def __init__(self, url: str, *, prompt: int = 0) -> None:
        self.url = url
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
        end = time.monotonic() + PATIENCE / 2
        while time.monotonic() < end and not stop.wait(0.1):
            missing = "SELECT count(*) FROM docs WHERE embedding IS NULL AND tenant <> 'acme'"
            if rows_of(self.url, missing) == [(0,)]:
                self.others_were_whole = True
                break
        self.released.set()


@pytest.mark.parametrize(
    ("healthy", "prompt"),
    [(2, 0), (0, 0), (2, 2)],
    ids=["at the probe", "at the first batch", "when its key is proven"],
)
def test_a_slow_endpoint_holds_up_its_own_tenant_alone(
    database: str, tmp_path: Path, healthy: int, prompt: int
) -> None:
    # acme's rows are read first.
    rows = {"acme": (healthy, 60), "globex": (1, 40), "initech": (0, 10)}
    slow = Slow(database, prompt=prompt)
    with docs(database, rows) as table, ProviderServer() as server:
        server.always(slow.rule)
        with meanwhile(slow.watch):
            done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert slow.others_were_whole
        assert done.counts() == {"selected": 110, "fixed": 110}
        assert table.wrong() == []


def test_a_late_probe_that_disagrees_stops_its_tenant_alone(database: str, tmp_path: Path) -> None:
    slow = Slow(database)
    with docs(database, {"acme": (2, 10), "globex": (2, 10)}) as table, ProviderServer() as server:
        table.execute("UPDATE docs SET embedding = '[1,0,0,0,0,0,0,0]' WHERE id = 1")
        server.always(slow.rule)
        with meanwhile(slow.watch):
            done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert slow.others_were_whole
        assert done.docs.stopped is None
        assert done.counts() == {"selected": 20, "fixed": 10, "failed": 10}
        [refused] = done.reasons(Outcome.FAILED)
        assert "the probe refused" in refused
