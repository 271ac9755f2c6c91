"""What the cases of a fault suite share: servers, the starter of runs, and how they are counted."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg

from demo.postgres import server
from tests.drivers.starter import Starter
from tests.faults.stages.invariants import Seen
from tests.faults.stages.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from tests.faults.killer import Crowd, Killer
    from tests.faults.provider import Provider
    from tests.faults.racer import Racer
    from tests.faults.watch import Clients, Watch


class Ground:
    """A server and a starter for one case after another; `counts` says what was done to them."""

    def __init__(self, server_url: str | None = None, starter: Starter | None = None) -> None:
        """Without a URL it runs a server of its own, and so with the starter."""
        self._given = server_url
        self._given_starter = starter
        self._numbers = itertools.count(1)
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @cached_property
    def server(self) -> str:
        return self._given or self._stack.enter_context(server())

    @cached_property
    def starter(self) -> Starter:
        return self._given_starter or self._stack.enter_context(Starter())

    @cached_property
    def restartable(self) -> tuple[str, Path]:
        """A server that may be crashed, and its folder: what it has committed survives that."""
        # A name of few characters: a socket's path may have about 100.
        parent = tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True)
        directory = Path(self._stack.enter_context(parent)) / "d"
        url = self._stack.enter_context(server(directory))
        with psycopg.connect(url, autocommit=True) as connection:
            # A commit is answered once it is written; the machine itself does not crash here.
            connection.execute("ALTER SYSTEM SET synchronous_commit = on")
            connection.execute("SELECT pg_reload_conf()")
        return url, directory

    def database_name(self) -> str:
        """One that no other case has."""
        return f"chaos_{os.getpid()}_{next(self._numbers)}"

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty one, removed afterwards."""
        with tempfile.TemporaryDirectory(prefix="chaos-") as name:
            yield Path(name)

    def stage(self, seed: int, *, server: str | None = None, **options: Any) -> Stage:
        """A new stage on the server."""
        return Stage(
            server=server or self.server,
            starter=self.starter,
            name=self.database_name(),
            seed=seed,
            **options,
        )

    def disturbed(
        self,
        stage: Stage,
        provider: Provider,
        *,
        url: str | None = None,
        killer: Killer | None = None,
        racer: Racer | None = None,
        others: Sequence[Watch | Clients | Crowd] = (),
        arguments: Sequence[str] = (),
    ) -> Seen:
        """One run, with what was there before and after it. What goes on beside it ends with it."""
        before, folders = stage.rows() if racer is None else racer.before, set(stage.incidents())
        asked = len(provider.received)
        run = stage.run(*arguments, url=url, provider=provider.base_url, killer=killer)
        self.counts["runs"] += 1
        if racer is not None:
            self.counts["racing edits"] += racer.made
            racer.stop()
        for other in others:
            other.stop()
        new = [folder for folder in stage.incidents() if folder not in folders]
        return Seen(
            stage=stage,
            run=run,
            before=before,
            after=stage.rows(),
            received=tuple(provider.received[asked:]),
            raced=tuple(racer.changes) if racer else (),
            folder=new[-1] if new else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A name that says what is done, and what does it, given a seed.

    `run` returns every promise that was broken, in words.
    """

    name: str
    run: Callable[[Ground, int], list[str]]


def said(where: str, wrong: list[str]) -> list[str]:
    """What is wrong, and after which run."""
    return [f"{where}: {one}" for one in wrong]
