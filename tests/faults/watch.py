"""Watches a repair's sessions from outside, as a DBA does: by pg_stat_activity and pg_locks.

Beside it, sessions of an application that lock rows for a moment, as its transactions do.
"""

from __future__ import annotations

import random
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import psycopg

if TYPE_CHECKING:
    from types import TracebackType

NAME = "a-repair"
"""What a watched run's sessions are called; the one with the lock names itself."""
SECONDS_BETWEEN = 0.02
JOIN_SECONDS = 10.0

FIRST_OF_USERS = 16384
"""PostgreSQL's FirstNormalObjectId: relations below are its own catalog."""
OURS = f"(a.application_name = '{NAME}' OR a.application_name LIKE 'embedding-integrity %')"
SEEN = f"""
SELECT 'others waited for a lock of ours', max(clock_timestamp() - w.waitstart)
FROM pg_locks AS w JOIN pg_stat_activity AS a ON a.pid = ANY (pg_blocking_pids(w.pid))
WHERE NOT w.granted AND {OURS}
UNION ALL
SELECT 'we waited for a lock', max(clock_timestamp() - w.waitstart)
FROM pg_locks AS w JOIN pg_stat_activity AS a USING (pid)
WHERE NOT w.granted AND {OURS}
UNION ALL
SELECT 'a transaction of ours was idle', max(clock_timestamp() - a.state_change)
FROM pg_stat_activity AS a
WHERE a.state LIKE 'idle in transaction%' AND {OURS}
    AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL
         OR EXISTS (SELECT FROM pg_locks AS held WHERE held.pid = a.pid
                    AND held.relation >= {FIRST_OF_USERS}))
UNION ALL
SELECT 'a snapshot of ours was held', max(clock_timestamp() - a.xact_start)
FROM pg_stat_activity AS a
WHERE a.backend_xmin IS NOT NULL AND {OURS}
"""
"""The longest of each kind at this moment. The transaction that holds the lock of a repair is idle
by design, and holds neither snapshot nor row."""


def named(url: str) -> str:
    """The URL under which a run's sessions are watched."""
    return f"{url}?application_name={NAME}"


class Watch:
    """Looks again and again while the `with` block runs. `longest` is in seconds, by kind."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._end = threading.Event()
        self.looks = 0
        self.sessions = 0
        """The most sessions of the run at one time."""
        self.longest: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._connection = psycopg.connect(self._url, autocommit=True)
        self._thread = threading.Thread(target=self._look, daemon=True, name="watch")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Look no more."""
        self._end.set()
        self._thread.join(JOIN_SECONDS)
        self._connection.close()

    def over(self, *, snapshots: float, others: float) -> list[str]:
        """What lasted longer than that, in seconds."""
        bounds = {kind: snapshots if "snapshot" in kind else others for kind in self.longest}
        return [
            f"{kind} for {found:.2f} s, more than {bounds[kind]} s"
            for kind, found in self.longest.items()
            if found > bounds[kind]
        ]

    def _look(self) -> None:
        count = f"SELECT count(*) FROM pg_stat_activity AS a WHERE {OURS}"
        while not self._end.wait(SECONDS_BETWEEN):
            for kind, found in self._connection.execute(SEEN):
                seconds = found.total_seconds() if found is not None else 0.0
                self.longest[kind] = max(self.longest.get(kind, 0.0), seconds)
            ((sessions,),) = self._connection.execute(count)
            self.sessions = max(self.sessions, sessions)
            self.looks += 1


class Clients:
    """Sessions that lock a few rows of `docs` at a time and change none, while the block runs."""

    def __init__(self, url: str, *, seed: int, number: int, hold: float) -> None:
        """`hold` is how long each holds its rows, in seconds."""
        self._url, self._seed, self._number, self._hold = url, seed, number, hold
        self._end = threading.Event()
        self.transactions = 0

    def __enter__(self) -> Self:
        self._threads = [
            threading.Thread(target=self._work, args=(number,), daemon=True)
            for number in range(self._number)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all sessions, each after the transaction that it is at."""
        self._end.set()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def _work(self, number: int) -> None:
        chance = random.Random(self._seed + number)
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._end.wait(0.002):
                # Two such sessions may want the same rows in another order: one is told to retry.
                with suppress(psycopg.errors.DeadlockDetected), connection.transaction():
                    for _ in range(3):
                        connection.execute(
                            "SELECT FROM docs WHERE id = %s FOR UPDATE", (chance.randrange(1, 200),)
                        )
                    self._end.wait(self._hold)
                self.transactions += 1
